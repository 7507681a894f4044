"""Probabilities of the committed model for clips that a formula draws, by the loader in Python, to folder.csv.

Needs numpy and safetensors: PYTHONPATH=python/reference python crates/tt-rnn/tests/golden/folder.py
"""

from pathlib import Path

import numpy as np
import ttrnn_numpy

HERE = Path(__file__).resolve().parent
MODEL = HERE.parents[3] / "results" / "models" / "ucf11-sample-tt-gru"


def clip(kind, count, width, height):
    t, y, x, c = np.ogrid[:count, :height, :width, :3]
    board = (x // 20 + y // 15 + t // 3 + kind) % 2 * 90
    return ((x * (kind + 1) + y * (kind + 2 * c) + t * 11 + board) % 256).astype(np.uint8)


model = ttrnn_numpy.load(MODEL)
frames = model.config["frames"]
with open(HERE / "folder.csv", "w") as out:
    for kind, count in enumerate([1, 2, 7, 24, 24, 60]):
        probabilities = model.predict(clip(kind, count, frames["width"], frames["height"]))
        print(kind, count, *(f"{p:.9f}" for p in probabilities), sep=",", file=out)
