"""Makes lite0.safetensors: `pip install torch efficientnet-lite-pytorch==0.1.0`, then `python lite0.py`.

Features of EfficientNet-Lite0 by its PyTorch package, without its 18.8 MB of weights: each number comes from the
tensor's name and its place by `unit`, which `tests/lite0.rs` repeats. Frames are a pattern of whole numbers.
"""

import json
import struct
from pathlib import Path

import numpy
import torch
from efficientnet_lite_pytorch import EfficientNet

SIZES = [(160, 120), (224, 224), (97, 61)]  # width, height


def unit(name, count):
    """`count` numbers in [0, 1): FNV-1a of the name, then murmur's last steps of it and each place."""
    seed = 2166136261
    for byte in name.encode():
        seed = (seed ^ byte) * 16777619 % 2**32
    x = numpy.arange(count, dtype=numpy.uint32) * numpy.uint32(2654435761) + numpy.uint32(seed)
    x ^= x >> numpy.uint32(16)
    x *= numpy.uint32(0x85EBCA6B)
    x ^= x >> numpy.uint32(13)
    x *= numpy.uint32(0xC2B2AE35)
    x ^= x >> numpy.uint32(16)
    return (x >> numpy.uint32(8)).astype(numpy.float64) / 2**24


def value(name, shape):
    """Convolutions that keep the size of what passes them, norms near the identity."""
    u = unit(name, int(numpy.prod(shape)))
    if len(shape) == 4:
        u = (2 * u - 1) * (6 / (shape[1] * shape[2] * shape[3])) ** 0.5
    elif name.endswith(".weight") or name.endswith(".running_var"):
        u = 0.8 + 0.4 * u
    else:
        u = 0.2 * u - 0.1
    return torch.from_numpy(u.astype(numpy.float32).reshape(shape))


def pattern(width, height):
    """Bytes [height, width, 3]."""
    y, x, c = numpy.meshgrid(numpy.arange(height), numpy.arange(width), numpy.arange(3), indexing="ij")
    return ((7 * x + 11 * y + 37 * c + x * y % 29 + 64 * (x // 16 * (y // 16) % 3)) % 256).astype(numpy.uint8)


def network(state):
    """The package's network for frames of any size, with these tensors; its classifier is not asked."""
    network = EfficientNet.from_name("efficientnet-lite0", image_size=None).eval()
    missing, _ = network.load_state_dict(state, strict=False)
    assert all(name.startswith("_fc.") or name.endswith("num_batches_tracked") for name in missing), missing
    return network


def features(network, frame):
    """[1280] of a frame of bytes."""
    pixels = (torch.from_numpy(frame).permute(2, 0, 1)[None].float() - 127) / 128
    with torch.no_grad():
        return network.extract_features(pixels).mean((2, 3))[0]


def made():
    shapes = EfficientNet.from_name("efficientnet-lite0").state_dict()
    names = [name for name in shapes if not name.startswith("_fc.") and shapes[name].dim() > 0]
    return network({name: value(name, tuple(shapes[name].shape)) for name in names})


def save(path, tensors):
    """The safetensors format: header length, JSON header, little-endian data."""
    header, blobs, at = {}, [], 0
    for name, tensor in tensors.items():
        blob = tensor.numpy().astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


if __name__ == "__main__":
    net = made()
    golden = {f"{w}x{h}": features(net, pattern(w, h)) for w, h in SIZES}
    for name, tensor in golden.items():
        print(name, float(tensor.mean()), float(tensor.std()), float(tensor.max()))
    save(Path(__file__).with_name("lite0.safetensors"), golden)
