"""The compiled package against the loader in numpy: the same probabilities, and the same folders refused.

python loaders.py CASES, with `ttrnn` installed and python/reference on the path. CASES are those of
crates/tt-rnn/tests/onnx.rs: small models of every form, and what Rust says of two clips.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

# A package that is not there: none of this, nor all names of `ttrnn`, needs it.
sys.modules["torch"] = None

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
    ("frames.width", 160.0, "160.0"),
    ("frames.height", 65537, "65537"),
    ("frames.warm_up_to", 65537, "65537"),
    ("frames.windows", "even", "windows"),
    ("frames.fps_rule", "about", "about"),
    ("frames.scaler", None, "scaler"),
    ("input.tree", "(1 2)", "tree"),
    ("input.ranks", [1, 4, 4, 4, 2], "[1, 4, 4, 4, 2]"),
    ("input.ranks", [1, 4, 4, 73, 1], "[1, 4, 4, 73, 1]"),
    ("steps.bias", True, "bias"),
    ("classes", [1, 2], "1"),
    ("multi_label", 0, "0"),
    ("layers", {}, "above"),
    ("format", 1.0, "1.0"),
    ("trained", None, "trained"),
    ("author", "nobody", "author"),
]
# The same of models of other forms.
DAMAGE_OF_CASES = [
    ("tt-gru-layers.scan", "steps.recurrent", {"kind": "dense"}, "steps.recurrent is dense"),
    ("tt-gru-layers.scan", "layers.above.0", {"kind": "dense"}, "layers.above"),
    ("tr-gru.scan", "input.ranks.r9", 2, "ranks"),
    ("tr-gru.scan", "input.ranks.r1", 0, "input"),
    ("tr-gru.scan", "input.cores.1", "A1[r1,m2,n2,r2]", "cores"),
    ("tr-gru.scan", "input.cores.1", "A2[r1,m1,n2,r2]", "cores"),
    ("tr-gru.scan", "input.cores.1", "A2", "cores"),
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


def damaged(folder, model, place, value):
    config = json.loads((model / "config.json").read_text())
    *outer, key = [int(name) if name.isdigit() else name for name in place.split(".")]
    inner = config
    for name in outer:
        inner = inner[name]
    # None of a key stands for a key that is missing, but for the steps, which may be null.
    if value is None and place != "steps":
        del inner[key]
    else:
        inner[key] = value
    (folder / "config.json").write_text(json.dumps(config))


exec("from ttrnn import *", {})
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
    damage = [(MODEL, *one) for one in DAMAGE]
    damage += [(Path(sys.argv[1]) / case / "model", *one) for case, *one in DAMAGE_OF_CASES]
    for model, place, value, part in damage:
        damaged(folder, model, place, value)
        for said in refused(folder):
            assert part in said and "config.json" in said, (place, value, said)
    text = (MODEL / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"every": 1,', '"every": 1, "every": 2,'))
    for said in refused(folder):
        assert "every" in said and "config.json" in said, said
    (folder / "config.json").write_text(text)
    file, weights = folder / "model.safetensors", load_file(MODEL / "model.safetensors")
    bias = weights["recurrent.bias"]
    whole = {"recurrent.bias": bias.astype(np.int8)}
    for change, part in [
        ({"recurrent.bias": np.full_like(bias, np.nan)}, "NaN or infinity"),
        ({"recurrent.bias": np.full_like(bias, np.inf)}, "NaN or infinity"),
        ({"recurrent.bias": bias.astype(np.float64)}, "recurrent.bias"),
        ({"recurrent.bias.scale": bias}, "recurrent.bias.scale"),
        (whole, "recurrent.bias.scale"),
        (whole | {"recurrent.bias.scale": bias[:2]}, "model.safetensors"),
        ({"other": bias}, "other"),
    ]:
        save_file(weights | change, file)
        for said in refused(folder):
            assert part in said and "model.safetensors" in said, said
    file.write_bytes(file.read_bytes()[:-1])
    for said in refused(folder):
        assert "model.safetensors" in said, said
    file.unlink()
    for said in refused(folder):
        assert "model.safetensors" in said, said
print(f"{len(damage) + 10} folders are refused by both")
