"""Trained models elsewhere: for 50 clips that a fold held back, how far the probabilities of a folder and of the
three ONNX graphs are from those that the run recorded.

python xtask/checks/clips.py RUN_DIR STORE_DIR CELL... >> results/models/clip_errors.csv

RUN_DIR is a folder under data/runs/, STORE_DIR one under data/stores/. Needs numpy, safetensors, onnxruntime, the
package ttrnn, and target/release/bench-suite.
"""

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import ttrnn
from small_numbers import ROOT, clips_of, ttrnn_numpy

CLIPS = 50
TOLERANCE = 1e-5
FORMS = ["scan", "operator", "step"]


def exported(run, cell, to):
    """A folder and a graph of each form."""
    engine = ROOT / "target" / "release" / "bench-suite"
    subprocess.run([engine, "export", "--run-dir", run, "--cell", cell, "--to", to / "model"], check=True)
    for form in FORMS:
        graph = ["--to", to / f"{form}.onnx", "--form", form]
        subprocess.run([engine, "export", "--folder", to / "model", *graph], check=True)


def in_onnxruntime(path):
    """A function from the frames of a clip to its probabilities."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    states = {value.name: value.shape[1] for value in session.get_inputs() if value.type == "tensor(float)"}

    def predict(clip):
        if not states:
            return session.run(names, {"frames": clip[:, None]})[0][0]
        out = {f"{name}_next": np.zeros((1, units), np.float32) for name, units in states.items()}
        for frame in clip:
            before = {name: out[f"{name}_next"] for name in states}
            out = dict(zip(names, session.run(names, {"frame": frame[None], **before})))
        return out["probabilities"][0]

    return predict


run, store = Path(sys.argv[1]), Path(sys.argv[2])
clips = clips_of(store)
experiment = json.loads((run / "plan.json").read_text())["experiment"]
worst = 0.0
for cell in sys.argv[3:]:
    with open(run / "cells" / cell / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))[:CLIPS]
    with tempfile.TemporaryDirectory() as folder:
        exported(run, cell, Path(folder))
        ways = {"ttrnn": ttrnn.load(Path(folder) / "model"), "numpy": ttrnn_numpy.load(Path(folder) / "model")}
        size = (Path(folder) / "model" / "model.safetensors").stat().st_size
        ways = {name: (size, lambda clip, m=model: m.predict(m.sample(clip))) for name, model in ways.items()}
        for form in FORMS:
            graph = Path(folder) / f"{form}.onnx"
            ways[f"onnxruntime {form}"] = (graph.stat().st_size, in_onnxruntime(str(graph)))
        for way, (size, predict) in ways.items():
            error = 0.0
            for row in rows:
                expected = np.array([float(p) for p in row["probabilities"].split(";")])
                found = predict(np.ascontiguousarray(clips(row["clip"])))
                error = np.maximum(error, np.abs(found - expected).max())
            print(",".join([experiment, cell, way, str(size), str(len(rows)), f"{error:.1e}"]), flush=True)
            worst = np.maximum(worst, error)
assert worst < TOLERANCE, worst
