"""Models that `cargo xtask export` wrote, in numpy: `ttrnn_numpy.load(DIR).predict(frames)`.

A folder holds `model.safetensors` and `config.json`; docs/export.md of the project describes both. This file needs
numpy and safetensors and nothing else, and may be copied. The package `ttrnn` computes the same, compiled.
"""

import json
from itertools import chain
from math import prod
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

FORMATS = (1, 2)
# The most pixels, frames and steps of a kind.
LARGEST = 65536
GATES = {
    "rnn": ["h"],
    "gru": ["update", "reset", "candidate"],
    "lstm": ["input", "forget", "candidate", "output"],
}

# What config.json holds, by key: types, lists of one, and further objects; `?` marks what may be null or not there.
MATRIX = {
    "dense": object,
    "train": {"kind": str, "input_modes": [int], "output_modes": [int], "ranks": [int], "trains": int},
    "network": {
        "kind": str, "format": str, "input_modes": [int], "output_modes": [int], "ranks": dict, "blocks?": int,
        "tree?": str, "networks": int, "cores": [str],
    },
}
CONFIG = {
    "format": int, "model": str, "classes": [str], "multi_label": bool, "input": MATRIX, "trained": object,
    "frames": {
        "width": int, "height": int, "fps": int, "fps_rule": str, "every": int, "max_frames": int, "window?": str,
        "take?": int, "scaler": str, "scale": float, "shift": float, "warm_up_to": int,
    },
    "steps?": {"cell": str, "hidden": int, "gates": [str], "gate_activation": str, "recurrent?": MATRIX},
    "layers?": {"above": [MATRIX], "bidirectional": bool, "readout": str},
}


class ModelError(ValueError):
    """A folder that is not whole, or frames that do not fit the model."""


class Model:
    """A classifier of clips. `config` is what `config.json` says; `weights` holds the tensors by name, f32."""

    def __init__(self, folder):
        self.config = _read_config(Path(folder) / "config.json")
        path = Path(folder) / "model.safetensors"
        if not path.is_file():
            raise ModelError(f"{path} is not there: a model folder is what `cargo xtask export` writes")
        try:
            tensors = load_file(path)
        # A file that is cut off, and a type that numpy does not have, end in errors of many kinds.
        except Exception as error:
            raise ModelError(f"{path}: {error}") from error
        self.weights = _floats(path, tensors)
        shapes = _shapes(self.config)
        for name in sorted(self.weights.keys() - shapes.keys()):
            raise ModelError(f"{path}: tensor {name!r} belongs to no part of {self.config['model']}")
        for name, shape in shapes.items():
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
        x = rows * np.float32(rule["scale"]) + np.float32(rule["shift"])
        w = self.weights
        if not self.config["steps"]:
            hidden = np.tanh(self._project(x, self.config["input"], "input")[0] + w["input.bias"])
        for layer in _layers(self.config) if self.config["steps"] else []:
            read = [self._pass(x[:: -1 if back else 1], given, place) for given, place, back in layer]
            hidden = np.concatenate([states[-1] for states in read])
            x = np.concatenate([states[:: -1 if back else 1] for states, (_, _, back) in zip(read, layer)], axis=1)
        readout = (self.config.get("layers") or {}).get("readout", "last")
        hidden = {"mean": x.mean(axis=0), "max": x.max(axis=0)}.get(readout, hidden)
        scores = (hidden @ w["classifier.kernel"] + w["classifier.bias"]).astype(np.float64)
        if self.config["multi_label"]:
            return _sigmoid(scores)
        powers = np.exp(scores - scores.max())
        return powers / powers.sum()

    def _project(self, rows, given, name):
        """Rows `[n, M]` times the matrix whose tensors begin with `name`: `[n, G·H]`."""
        if given["kind"] == "dense":
            return rows @ self.weights[f"{name}.kernel"]
        count = given.get("trains") or given["networks"]
        names = [name] if count == 1 else [f"{name}.gate.{gate}" for gate in range(count)]
        return np.stack([np.concatenate([self._factors(row, given, name) for name in names]) for row in rows])

    def _factors(self, row, given, name):
        """A row `[M]` times one factorization, core by core, the one that costs least next."""
        cores, sizes = _cores(given)
        tensors = {core: self.weights[f"{name}.core.{core}"] for core in cores}
        sizes |= {index: n for core in cores for index, n in zip(cores[core], tensors[core].shape)}
        number = {index: at for at, index in enumerate(sizes)}
        here, outputs = ([f"{side}{k + 1}" for k in range(len(given[f"{key}_modes"]))]
                         for side, key in [("m", "input"), ("n", "output")])
        x = row.reshape([sizes[index] for index in here])
        while cores:
            core = min(cores, key=lambda core: prod(sizes[index] for index in {*here, *cores[core]}))
            indices = cores.pop(core)
            needed = {*outputs, *(index for others in cores.values() for index in others)}
            kept = [index for index in dict.fromkeys(here + indices) if index in needed]
            axes = [[number[index] for index in part] for part in (here, indices, kept)]
            x, here = np.einsum(x, axes[0], tensors[core], axes[1], axes[2], optimize=True), kept
        return x.transpose([here.index(index) for index in outputs]).reshape(-1)

    def _pass(self, rows, given, place):
        """The states `[T, H]` of a layer in one direction, of rows `[T, M]` in the order of reading."""
        steps, w, n = self.config["steps"], self.weights, self.config["steps"]["hidden"]
        x, bias, form = self._project(rows, given, f"{place}input"), w[f"{place}recurrent.bias"], steps.get("recurrent")
        u = self._project(np.eye(n, dtype=np.float32), form or {"kind": "dense"}, f"{place}recurrent")
        # The hard sigmoid of the released code: PyTorch's has slope 1/6.
        hard = steps["gate_activation"] == "hard-sigmoid"
        squash = (lambda v: np.clip(np.float32(0.2) * v + np.float32(0.5), 0, 1)) if hard else _sigmoid
        missing = max(0, self.config["frames"]["warm_up_to"] - len(x))
        h, c, states = np.zeros(n, np.float32), np.zeros(n, np.float32), []
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
            states.append(h)
        return np.stack(states)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _floats(path, tensors):
    """All tensors in f32: halves, and whole numbers times the scale of their column."""
    weights = {}
    for name, value in tensors.items():
        if value.dtype not in (np.float32, np.float16, np.int8):
            raise ModelError(f"{path}: tensor {name!r} is of type {value.dtype}; f32, f16 and int8 are known")
        weights[name] = value.astype(np.float32)
    for name in [name for name, value in tensors.items() if value.dtype == np.int8]:
        scale = weights.pop(f"{name}.scale", None)
        if scale is None:
            raise ModelError(f"{path}: tensor {name + '.scale'!r} is missing")
        if scale.shape != weights[name].shape[-1:]:
            raise ModelError(f"{path}: tensor {name + '.scale'!r} is {scale.shape}, one for each column is asked for")
        weights[name] *= scale
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise ModelError(f"{path}: tensor {name!r} holds NaN or infinity")
    return weights


def _read_config(path):
    try:
        config = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_object)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {error}: a model folder is what `cargo xtask export` writes") from error
    try:
        if config["format"] not in FORMATS:
            raise ModelError(f"{path} is of format {config['format']}, this loader reads {FORMATS}")
        for reason in chain(_unlike(config, CONFIG, ""), _misfits(config)):
            raise ModelError(f"{path}: {reason}")
        _shapes(config)
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path} is not whole: {error!r}") from error
    return config


def _object(pairs):
    """An object of JSON, whose keys must differ: readers would take different ones."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"a key is there twice among {[key for key, _ in pairs]}")
    return dict(pairs)


def _unlike(value, form, key):
    """What in a value is not as its form has it, in words; nothing of one that is."""
    if form is MATRIX and type(value) is dict:
        form = MATRIX.get(value.get("kind"), {"kind": None})
    if type(form) is list and type(value) is list:
        for at, part in enumerate(value):
            yield from _unlike(part, form[0], f"{key}{at}.")
    elif type(form) is dict and type(value) is dict:
        for name, part in form.items():
            name, needed = name.rstrip("?"), not name.endswith("?")
            if name in value and (needed or value[name] is not None):
                yield from _unlike(value[name], part, f"{key}{name}.")
            elif needed:
                yield f"{key}{name} is missing"
        yield from (f"{key}{name} is not known" for name in value if not {name, f"{name}?"} & form.keys())
    elif not _is(value, form):
        yield f"{key[:-1]} is {value!r}"


def _is(value, form):
    if form is float:
        return type(value) in (int, float) and abs(value) < np.inf
    return form is object or type(value) is form and (form is not int or value >= 0)


def _middles(parts, total):
    """The middles of equal parts of so many frames."""
    return [(2 * i + 1) * total // (2 * parts) for i in range(parts)]


def _layers(config):
    """Of each layer and each of its directions the form of its matrix, the start of its tensors' names, and whether it
    reads back to front."""
    beyond = config.get("layers") or {"above": [], "bidirectional": False}
    for layer, given in enumerate([config["input"], *beyond["above"]], 1):
        names = ["" if layer == 1 else f"layer.{layer}.", *[f"layer.{layer}.back."] * beyond["bidirectional"]]
        yield [(given, name, at == 1) for at, name in enumerate(names)]


def _cores(given):
    """The cores of a factorization with their indices, and the sizes of the indices of its input."""
    sizes = {f"m{k}": size for k, size in enumerate(given["input_modes"], 1)}
    if given["kind"] == "train":
        return {str(k): [f"m{k}", f"r{k}", f"r{k - 1}", f"n{k}"] for k in range(len(sizes), 0, -1)}, sizes
    split = [core.rstrip("]").partition("[") for core in given["cores"]]
    return {name: indices.split(",") for name, _, indices in split}, sizes


def _misfits(config):
    """What does not fit in a configuration, in words; nothing of one that does."""
    frames, given, steps, classes = (config[key] for key in ["frames", "input", "steps", "classes"])
    kind = given["kind"]
    least = {"width": 1, "height": 1, "fps": 1, "every": 1, "warm_up_to": 0}
    least |= {} if frames["take"] is None else {"take": 1}
    yield from (f"frames.{key} is {frames[key]}" for key in least if not least[key] <= frames[key] <= LARGEST)
    if frames["fps_rule"] not in ("exactly", "at-most"):
        yield f"frames.fps_rule is {frames['fps_rule']!r}"
    if steps and not 1 <= steps["hidden"] <= LARGEST:
        yield f"steps.hidden is {steps['hidden']}"
    window = frames.get("window", "first")
    if window not in ("first", "even", "middle") or (window != "first" and not frames["max_frames"]):
        yield f"frames.window is {window!r}, frames.max_frames {frames['max_frames']}"
    if not classes or len(set(classes)) < len(classes):
        yield f"classes {classes} are none, or one is there twice"
    cell, beyond = steps and steps["cell"], config.get("layers")
    forms = [matrix.get("format", matrix["kind"]) for matrix in [given, *(beyond["above"] if beyond else [])]]
    prefix = {"dense": "", "train": "tt-"}.get(forms[0], f"{forms[0]}-")
    is_dense_mlp = not cell and kind == "dense"
    if is_dense_mlp or config["model"] != f"{prefix}{cell or 'mlp'}" or (cell is None) != bool(frames["take"]):
        yield f"input.kind {kind!r}, steps.cell {cell!r}, frames.take {frames['take']} do not fit {config['model']!r}"
    if steps and (steps["gates"] != GATES[cell] or steps["gate_activation"] not in ("hard-sigmoid", "sigmoid")):
        yield f"steps.gates {steps['gates']} or gate_activation {steps['gate_activation']!r} are not those of {cell!r}"
    if beyond and (not steps or beyond["readout"] not in ("last", "mean", "max")):
        yield f"layers.readout {beyond['readout']!r} is none, or there are layers without steps"
    if len(set(forms)) > 1:
        yield f"layers.above are of forms {forms[1:]}, and input is of {forms[0]!r}"
    if ((steps or {}).get("recurrent") or {}).get("kind") == "dense":
        yield "steps.recurrent is dense: then the key is left out"
    news = beyond or kind == "network" or (steps or {}).get("recurrent") or window != "first"
    if config["format"] == 1 and news:
        yield "format is 1, and what it says is of format 2"
    yield from (reason for name, form, m, n in _matrices(config) for reason in _misfit(name, form, m, n, steps))


def _matrices(config):
    """Of every matrix the start of its tensors' names, its form, the numbers of a row and those that they become."""
    frames, steps = config["frames"], config["steps"]
    rows = frames["width"] * frames["height"] * 3 * (frames["take"] or 1)
    if not steps:
        return [("input", config["input"], rows, prod(config["input"]["output_modes"]))]
    hidden, width, found = steps["hidden"], steps["hidden"] * len(steps["gates"]), []
    for layer in _layers(config):
        for given, place, _ in layer:
            found.append((f"{place}input", given, rows, width))
            found.append((f"{place}recurrent", steps.get("recurrent") or {"kind": "dense"}, hidden, width))
        rows = hidden * len(layer)
    return found


def _misfit(name, given, rows, width, steps):
    if given["kind"] == "dense":
        return
    (m, n), count = (given["input_modes"], given["output_modes"]), given.get("trains") or given["networks"]
    gates = len(steps["gates"]) if steps else 1
    fits = prod(m) == rows and prod(n) * gates == width and count in (1, gates)
    if not fits or given["kind"] == "train" and not len(m) == len(n) == len(given["ranks"]) - 1:
        yield f"{name}: modes, ranks, trains or networks of {given} do not fit rows of {rows} or steps {steps}"
    cores, sizes = _cores(given)
    if given["kind"] == "train":
        sides = [inputs * outputs for inputs, outputs in zip(m, n)]
        sides[0] *= gates // count
        most = [min(prod(sides[:k]), prod(sides[k:])) for k in range(len(sides) + 1)]
        if not all(1 <= rank <= largest for rank, largest in zip(given["ranks"], most)):
            yield f"{name}.ranks {given['ranks']} are not from 1 to {most}"
        return
    # Whether these are the cores of the format is not asked: what is summed stands in them.
    ranks, indices = given["ranks"], [index for core in cores.values() for index in core]
    ends = [*sizes, *(f"n{k}" for k in range(1, len(n) + 1))]
    if not all(_is(rank, int) and rank for rank in ranks.values()):
        yield f"{name}.ranks are {ranks}"
    if len(cores) < len(given["cores"]) or sorted(i for i in indices if i not in {"b", *ranks}) != sorted(ends):
        yield f"{name}.cores {given['cores']} do not have each of {ends} once"
    if ranks.keys() - indices:
        yield f"{name}.ranks {ranks} are not all of {given['cores']}"


def _shapes(config):
    """Name and shape of every tensor."""
    steps, shapes = config["steps"], {}
    for name, given, rows, width in _matrices(config):
        gates = len(steps["gates"]) if steps else 1
        if name.endswith("recurrent"):
            shapes[f"{name}.bias"] = (width,)
        if given["kind"] == "dense":
            shapes[f"{name}.kernel"] = (rows, width)
            continue
        count = given.get("trains") or given["networks"]
        cores, sizes = _cores(given)
        ranks = given["ranks"] if given["kind"] == "network" else {f"r{k}": r for k, r in enumerate(given["ranks"])}
        sizes |= ranks | {"b": given.get("blocks")} | {f"n{k}": n for k, n in enumerate(given["output_modes"], 1)}
        sizes["n1"] *= gates // count
        for start in [name] if count == 1 else [f"{name}.gate.{gate}" for gate in range(count)]:
            shapes |= {f"{start}.core.{core}": tuple(sizes[i] for i in cores[core]) for core in cores}
    hidden = steps["hidden"] if steps else prod(config["input"]["output_modes"])
    shapes |= {} if steps else {"input.bias": (hidden,)}
    read, classes = hidden * len(next(_layers(config))), len(config["classes"])
    return shapes | {"classifier.kernel": (read, classes), "classifier.bias": (classes,)}


load = Model
