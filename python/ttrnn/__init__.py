"""Models that `cargo xtask export` wrote, in numpy: `ttrnn.load(DIR).predict(frames)`.

A folder holds `model.safetensors` and `config.json`; docs/export.md of the project describes both. This file needs
numpy and safetensors and nothing else, and may be copied.
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

FORMAT = 1
GATES = {
    "rnn": ["h"],
    "gru": ["update", "reset", "candidate"],
    "lstm": ["input", "forget", "candidate", "output"],
}


class ModelError(ValueError):
    """A folder that is not whole, or frames that do not fit the model."""


def load(folder):
    """The model of a folder."""
    return Model(Path(folder))


class Model:
    """A classifier of clips.

    `config` is what `config.json` says; `weights` holds the tensors by name, f32.
    """

    def __init__(self, folder):
        self.config = _read_config(folder / "config.json")
        path = folder / "model.safetensors"
        if not path.is_file():
            raise ModelError(f"{path} is not there: a model folder is what `cargo xtask export` writes")
        self.weights = _floats(path, load_file(path))
        for name, shape in _shapes(self.config).items():
            if name not in self.weights:
                raise ModelError(f"{path}: tensor {name!r} is missing")
            if self.weights[name].shape != shape:
                found = self.weights[name].shape
                raise ModelError(f"{path}: tensor {name!r} is {found}, the configuration asks for {shape}")
        self.classes = self.config["classes"]

    def sample(self, frames):
        """Of a clip's frames those that the model is to see, of frames at the rate of the configuration."""
        rule = self.config["frames"]
        kept = frames[:: rule["every"]]
        if rule["max_frames"]:
            kept = kept[: rule["max_frames"]]
        take, total = rule["take"], len(kept)
        if take is None:
            return kept
        if total <= take:
            return kept[[min(i, total - 1) for i in range(take)]]
        return kept[[(2 * i + 1) * total // (2 * take) for i in range(take)]]

    def predict(self, frames):
        """Probabilities of the classes `[K]` of one clip, from uint8 frames `[T, height, width, 3]` (red, green,
        blue) as the model is to see them: see `sample`."""
        rule = self.config["frames"]
        size = (rule["height"], rule["width"], 3)
        frames = np.asarray(frames)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != size or len(frames) == 0:
            raise ModelError(f"frames are uint8 (T, {size}), at least one; found {frames.dtype} {frames.shape}")
        if rule["take"] not in (None, len(frames)):
            raise ModelError(f"{self.config['model']} takes {rule['take']} frames, found {len(frames)}")
        rows = frames.reshape(1 if rule["take"] else len(frames), -1).astype(np.float32)
        x = self._project(rows * np.float32(rule["scale"]) + np.float32(rule["shift"]))
        w = self.weights
        if self.config["steps"] is None:
            hidden = np.tanh(x[0] + w["input.bias"])
        else:
            hidden = self._steps(x)
        scores = (hidden @ w["classifier.kernel"] + w["classifier.bias"]).astype(np.float64)
        if self.config["multi_label"]:
            return 1.0 / (1.0 + np.exp(-scores))
        powers = np.exp(scores - scores.max())
        return powers / powers.sum()

    def _project(self, rows):
        """Rows `[n, M]` to pre-activations `[n, G·H]`, without bias."""
        if self.config["input"]["kind"] == "dense":
            return rows @ self.weights["input.kernel"]
        trains = self.config["input"]["trains"]
        prefixes = ["input"] if trains == 1 else [f"input.gate.{gate}" for gate in range(trains)]
        return np.concatenate([self._train(rows, prefix) for prefix in prefixes], axis=1)

    def _train(self, rows, prefix):
        """One train, last core first. A core is `[m_k, r_k, r_{k-1}, n_k]`."""
        order = len(self.config["input"]["input_modes"])
        x = rows.reshape(-1, 1)
        for k in range(order, 0, -1):
            core = self.weights[f"{prefix}.core.{k}"]
            m, after, before, n = core.shape
            x = x.reshape(-1, m * after, x.shape[-1])  # [n·m_1…m_{k-1}, m_k·r_k, n_{k+1}…n_d]
            x = np.matmul(core.reshape(m * after, before * n).T, x)  # […, r_{k-1}·n_k, n_{k+1}…n_d]
            x = x.reshape(len(x) * before, -1)
        return x.reshape(len(rows), -1)

    def _steps(self, x):
        """The last state `[H]` of a clip's pre-activations `[T, G·H]`."""
        steps, w = self.config["steps"], self.weights
        n, u, bias = steps["hidden"], w["recurrent.kernel"], w["recurrent.bias"]
        squash = _hard_sigmoid if steps["gate_activation"] == "hard-sigmoid" else _sigmoid
        missing = max(0, self.config["frames"]["warm_up_to"] - len(x))
        h = c = np.zeros(n, np.float32)
        for row in np.concatenate([np.zeros((missing, x.shape[1]), np.float32), x]):
            row = row + bias
            if steps["cell"] == "rnn":
                h = np.tanh(row + h @ u)
            elif steps["cell"] == "gru":
                zr = squash(row[: 2 * n] + h @ u[:, : 2 * n])
                z, r = zr[:n], zr[n:]
                h = z * h + (1 - z) * np.tanh(row[2 * n :] + (r * h) @ u[:, 2 * n :])
            else:
                i, f, g, o = np.split(row + h @ u, 4)
                c = squash(f) * c + squash(i) * np.tanh(g)
                h = squash(o) * np.tanh(c)
        return h


def _hard_sigmoid(x):
    """That of the released code: PyTorch's has slope 1/6."""
    return np.clip(np.float32(0.2) * x + np.float32(0.5), 0, 1)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _floats(path, tensors):
    """All tensors in f32: halves, and whole numbers times the scale of their column."""
    weights = {}
    for name, value in tensors.items():
        if value.dtype == np.int8:
            if f"{name}.scale" not in tensors:
                raise ModelError(f"{path}: tensor {name + '.scale'!r} is missing")
            weights[name] = value.astype(np.float32) * tensors[f"{name}.scale"]
        elif not name.endswith(".scale"):
            weights[name] = value.astype(np.float32)
    return weights


def _read_config(path):
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path} is not there: a model folder is what `cargo xtask export` writes") from error
    except ValueError as error:
        raise ModelError(f"{path} is no JSON: {error}") from error
    if config.get("format") != FORMAT:
        raise ModelError(f"{path} is of format {config.get('format')}, this loader reads {FORMAT}")
    steps = config["steps"]
    if steps and steps["gates"] != GATES.get(steps["cell"]):
        raise ModelError(f"{path}: steps.gates {steps['gates']} are not those of cell {steps['cell']!r}")
    return config


def _shapes(config):
    """Name and shape of every tensor."""
    frames, given, steps = config["frames"], config["input"], config["steps"]
    classes, gates = len(config["classes"]), len(steps["gates"]) if steps else 1
    shapes = {}
    if given["kind"] == "dense":
        hidden = steps["hidden"]
        features = frames["width"] * frames["height"] * 3
        shapes["input.kernel"] = (features, gates * hidden)
    else:
        modes, ranks, trains = list(given["output_modes"]), given["ranks"], given["trains"]
        hidden = int(np.prod(modes))
        modes[0] *= gates // trains
        for train in range(trains):
            prefix = "input" if trains == 1 else f"input.gate.{train}"
            for k, (m, n) in enumerate(zip(given["input_modes"], modes)):
                shapes[f"{prefix}.core.{k + 1}"] = (m, ranks[k + 1], ranks[k], n)
    if steps:
        shapes["recurrent.kernel"] = (hidden, gates * hidden)
        shapes["recurrent.bias"] = (gates * hidden,)
    else:
        shapes["input.bias"] = (hidden,)
    shapes["classifier.kernel"] = (hidden, classes)
    shapes["classifier.bias"] = (classes,)
    return shapes
