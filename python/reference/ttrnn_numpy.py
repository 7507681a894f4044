"""Models that `cargo xtask export` wrote, in numpy: `ttrnn_numpy.load(DIR).predict(frames)`.

A folder holds `model.safetensors` and `config.json`; docs/export.md of the project describes both. This file needs
numpy and safetensors and nothing else, and may be copied. The package `ttrnn` computes the same, compiled.
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
MODELS = {"tt-mlp": (None, "train")}
MODELS.update({cell: (cell, "dense") for cell in GATES}, **{f"tt-{cell}": (cell, "train") for cell in GATES})


class ModelError(ValueError):
    """A folder that is not whole, or frames that do not fit the model."""


class Model:
    """A classifier of clips. `config` is what `config.json` says; `weights` holds the tensors by name, f32."""

    def __init__(self, folder):
        self.config = _read_config(Path(folder) / "config.json")
        path = Path(folder) / "model.safetensors"
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
        most, total, window = rule["max_frames"], len(kept), rule.get("window", "first")
        if 0 < most < total:
            first = (total - most) // 2 if window == "middle" else 0
            kept = kept[_middles(most, total)] if window == "even" else kept[first : first + most]
        take, total = rule["take"], len(kept)
        if take is None:
            return kept
        return kept[_middles(take, total) if total > take else [min(i, total - 1) for i in range(take)]]

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
        hidden = self._steps(x) if self.config["steps"] else np.tanh(x[0] + w["input.bias"])
        scores = (hidden @ w["classifier.kernel"] + w["classifier.bias"]).astype(np.float64)
        if self.config["multi_label"]:
            return _sigmoid(scores)
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
        # The hard sigmoid of the released code: PyTorch's has slope 1/6.
        hard = steps["gate_activation"] == "hard-sigmoid"
        squash = (lambda v: np.clip(np.float32(0.2) * v + np.float32(0.5), 0, 1)) if hard else _sigmoid
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
        if name in weights and not np.isfinite(weights[name]).all():
            raise ModelError(f"{path}: tensor {name!r} holds NaN or infinity")
    return weights


def _read_config(path):
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {error}: a model folder is what `cargo xtask export` writes") from error
    try:
        if config["format"] != FORMAT:
            raise ModelError(f"{path} is of format {config['format']}, this loader reads {FORMAT}")
        for reason in _misfits(config):
            raise ModelError(f"{path}: {reason}")
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path} is not whole: {error!r}") from error
    return config


def _middles(parts, total):
    """The middles of equal parts of so many frames."""
    return [(2 * i + 1) * total // (2 * parts) for i in range(parts)]


def _misfits(config):
    """What does not fit in a configuration, in words; nothing of one that does."""
    frames, given, steps, classes = (config[key] for key in ["frames", "input", "steps", "classes"])
    kind = given["kind"]
    least = {"width": 1, "height": 1, "fps": 1, "every": 1, "max_frames": 0, "warm_up_to": 0}
    least.update(scale=-np.inf, shift=-np.inf)
    yield from (f"frames.{key} is {frames[key]}" for key in least if not frames[key] >= least[key])
    window = frames.get("window", "first")
    if window not in ("first", "even", "middle") or (window != "first" and not frames["max_frames"]):
        yield f"frames.window is {window!r}, frames.max_frames {frames['max_frames']}"
    if not classes or len(set(classes)) < len(classes) or config["multi_label"] not in (False, True):
        yield f"classes {classes} are none, or one is there twice"
    cell = steps and steps["cell"]
    if MODELS.get(config["model"]) != (cell, kind) or (cell is None) != bool(frames["take"]):
        yield f"input.kind {kind!r}, steps.cell {cell!r}, frames.take {frames['take']} do not fit {config['model']!r}"
    if steps and (steps["gates"] != GATES[cell] or steps["gate_activation"] not in ("hard-sigmoid", "sigmoid")):
        yield f"steps.gates {steps['gates']} or gate_activation {steps['gate_activation']!r} are not those of {cell!r}"
    if kind == "train":
        pixels, (m, n) = frames["width"] * frames["height"] * 3, (given["input_modes"], given["output_modes"])
        fits = np.prod(m) == pixels * (frames["take"] or 1) and len(m) == len(n) == len(given["ranks"]) - 1
        fits &= given["trains"] in (1, len(steps["gates"]) if steps else 1)
        if not (fits and np.prod(n) == (steps["hidden"] if steps else np.prod(n))):
            yield f"input {given} does not fit {pixels} numbers a frame, its own lengths, or steps {steps}"


def _shapes(config):
    """Name and shape of every tensor."""
    frames, given, steps = config["frames"], config["input"], config["steps"]
    classes, gates = len(config["classes"]), len(steps["gates"]) if steps else 1
    shapes = {}
    hidden = steps["hidden"] if steps else int(np.prod(given["output_modes"]))
    if given["kind"] == "dense":
        shapes["input.kernel"] = (frames["width"] * frames["height"] * 3, gates * hidden)
    else:
        modes, ranks, trains = list(given["output_modes"]), given["ranks"], given["trains"]
        modes[0] *= gates // trains
        for train in range(trains):
            prefix = "input" if trains == 1 else f"input.gate.{train}"
            for k, (m, n) in enumerate(zip(given["input_modes"], modes)):
                shapes[f"{prefix}.core.{k + 1}"] = (m, ranks[k + 1], ranks[k], n)
    if steps:
        shapes |= {"recurrent.kernel": (hidden, gates * hidden), "recurrent.bias": (gates * hidden,)}
    else:
        shapes["input.bias"] = (hidden,)
    return shapes | {"classifier.kernel": (hidden, classes), "classifier.bias": (classes,)}


load = Model
