"""What half precision and int8 weights change in the answers for the clips that were held back, over all folds of a run.

python xtask/checks/small_numbers.py RUN_DIR STORE_DIR PROTOCOL MODEL... >> results/models/small_numbers.csv

RUN_DIR is a folder under data/runs/, STORE_DIR one under data/stores/. Needs numpy, safetensors, and target/release/bench-suite.
"""

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python" / "reference"))
import ttrnn_numpy  # noqa: E402

KINDS = ["f32", "f16", "int8"]
REPLICATES = 2000


def clips_of(store):
    """A function from a clip's name to its frames."""
    spec = json.loads((store / "store.json").read_text())["spec"]
    frames = np.memmap(store / "frames.bin", np.uint8, "r").reshape(-1, spec["height"], spec["width"], 3)
    with open(store / "manifest.csv", newline="") as file:
        places = {row["clip"]: (int(row["offset"]), int(row["frames"])) for row in csv.DictReader(file) if row["frames"]}
    return lambda name: frames[places[name][0] :][: places[name][1]]


def answers(run, cell, clips, kind):
    """Class of each clip that was held back, its group, whether it is right; and the size of the weights."""
    with tempfile.TemporaryDirectory() as folder:
        engine = ROOT / "target" / "release" / "bench-suite"
        export = ["export", "--run-dir", run, "--cell", cell.name, "--to", folder, "--weights", kind]
        subprocess.run([engine, *export], check=True)
        model = ttrnn_numpy.load(folder)
        size = (Path(folder) / "model.safetensors").stat().st_size
    with open(cell / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    said = [model.classes[model.predict(model.sample(clips(row["clip"]))).argmax()] for row in rows]
    return said, [row["label"] for row in rows], [row["group"] for row in rows], size


def interval(change, units):
    """95 % bootstrap interval of the mean of `change`, drawing whole units."""
    draws = np.random.default_rng(0)
    names = sorted(set(units))
    sums = np.array([[sum(c for c, u in zip(change, units) if u == name), units.count(name)] for name in names])
    drawn = sums[draws.integers(len(names), size=(REPLICATES, len(names)))].sum(axis=1)
    return np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])


def main():
    run, store, protocol = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    clips = clips_of(store)
    experiment = json.loads((run / "plan.json").read_text())["experiment"]
    for name in sys.argv[4:]:
        cells = sorted(path.parent for path in run.glob(f"cells/{name}.{protocol}.*/predictions.csv"))
        exact = None
        for kind in KINDS:
            said, right, units, size = [], [], [], 0
            for cell in cells:
                answer, labels, groups, size = answers(run, cell, clips, kind)
                units += groups if protocol == "groups" else [f"{cell.name}/{i}" for i in range(len(answer))]
                said += answer
                right += [float(a == label) for a, label in zip(answer, labels)]
            exact = exact or (said, right)
            low, high = interval([a - b for a, b in zip(right, exact[1])], units)
            changed = sum(a != b for a, b in zip(said, exact[0]))
            change = np.mean(right) - np.mean(exact[1])
            numbers = [f"{np.mean(right):.4f}", f"{change:.4f}", f"{low:.4f}", f"{high:.4f}", str(changed), str(len(said))]
            print(",".join([experiment, name, protocol, str(len(cells)), kind, str(size), *numbers]), flush=True)


if __name__ == "__main__":
    main()
