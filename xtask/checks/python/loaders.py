"""The compiled package against the loader in numpy: the same probabilities, and the same folders refused.

python loaders.py CASES, with `ttrnn` installed and python/reference on the path. CASES are those of
crates/tt-rnn/tests/onnx.rs: small models of every form, and what Rust says of two clips.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import ttrnn
import ttrnn_numpy
from safetensors.numpy import load_file, save_file

MODEL = Path(__file__).resolve().parents[3] / "results" / "models" / "ucf11-sample-tt-gru"
TOLERANCE = 1e-5

# Where in config.json, what is written there, and what is said of it.
DAMAGE = [
    ("steps.gate_activation", "relu", "relu"),
    ("steps.cell", "lstm", "tt-gru"),
    ("steps.hidden", 255, "255"),
    ("frames.every", 0, "frames.every is 0"),
    ("frames.window", "last", "last"),
    ("frames.window", "even", "frames.window"),
    ("frames.fps", 0, "frames.fps is 0"),
    ("frames.take", 6, "frames.take"),
    ("frames.width", None, "width"),
    ("frames.scale", None, "scale"),
    ("input.trains", 2, "trains"),
    ("input.kind", "dense", "input.kind"),
    ("input.input_modes", [8, 20, 20], "modes"),
    ("classes", ["a"] * 11, "twice"),
    ("classes", [], "classes"),
    ("model", "gru", "gru"),
    ("format", 3, "format 3"),
    ("steps", None, "tt-gru"),
]


def refused(folder):
    """What each loader says of a folder."""
    said = []
    for loader in [ttrnn, ttrnn_numpy]:
        try:
            loader.load(folder)
        except loader.ModelError as error:
            said.append(str(error))
        else:
            raise SystemExit(f"{loader.__name__} loads what it should refuse")
    return said


def damaged(folder, place, value):
    config = json.loads((MODEL / "config.json").read_text())
    *outer, key = place.split(".")
    inner = config
    for name in outer:
        inner = inner[name]
    # None of a key stands for a key that is missing, but for the steps, which may be null.
    if value is None and place != "steps":
        del inner[key]
    else:
        inner[key] = value
    (folder / "config.json").write_text(json.dumps(config))


draws = np.random.default_rng(1)
compiled, plain = ttrnn.load(MODEL), ttrnn_numpy.load(MODEL)
worst = 0.0
for clip in range(50):
    frames = draws.integers(0, 256, (int(draws.integers(1, 40)), 1, 1, 3), np.uint8)
    frames = frames + draws.integers(0, 60, (1, 120, 160, 3), np.uint8)
    found, expected = compiled.predict(frames), plain.predict(frames)
    stream = compiled.stream()
    live = [stream.push(frame) for frame in frames][-1]
    worst = np.max([worst, np.abs(found - expected).max(), np.abs(live - expected).max()])
assert worst < TOLERANCE, worst
assert compiled.classes == plain.classes
print(f"50 clips: the package, its stream and the loader in numpy are {worst:.1e} apart at most")

cases = sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir())
worst = 0.0
for case in cases:
    expected = np.array(json.loads((case / "probabilities.json").read_text()))
    clips = np.fromfile(case / "clips.bin", np.uint8).reshape(len(expected), -1, 2, 4, 3)
    for loader in [ttrnn, ttrnn_numpy]:
        found = np.array([loader.load(case / "model").predict(clip) for clip in clips])
        error = np.abs(found - expected).max()
        assert error < TOLERANCE, (case.name, loader.__name__, error)
        worst = max(worst, error)
assert len(cases) > 100, "the cases were not written"
print(f"{len(cases)} small models of every form: {worst:.1e} apart from Rust at most")

with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder) / "model"
    shutil.copytree(MODEL, folder)
    for place, value, part in DAMAGE:
        damaged(folder, place, value)
        for said in refused(folder):
            assert part in said and "config.json" in said, (place, value, said)
    shutil.copy(MODEL / "config.json", folder)
    weights = load_file(MODEL / "model.safetensors")
    for value in [np.nan, np.inf]:
        bad = weights | {"recurrent.bias": np.full_like(weights["recurrent.bias"], value)}
        save_file(bad, folder / "model.safetensors")
        for said in refused(folder):
            assert "recurrent.bias" in said and "NaN or infinity" in said, said
    (folder / "model.safetensors").unlink()
    for said in refused(folder):
        assert "model.safetensors" in said, said
print(f"{len(DAMAGE) + 3} folders are refused by both")
