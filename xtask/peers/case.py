"""Reading a case folder and writing the tensors of a check (formats in README.md)."""

import json
import os

import numpy as np

DTYPES = {"u8": np.uint8, "f32": np.dtype("<f4")}


class Case:
    """Shapes and weights of one comparison; nothing is read before it is asked for."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.header = json.load(file)
        self.folder = os.path.dirname(path)
        self.cell = self.header["cell"]
        self.batch = self.header["batch"]
        self.frames = self.header["frames"]
        self.gates = self.header["gates"]
        self.hidden = self.header["hidden"]
        self.ranks = self.header["ranks"]
        self.input_modes = self.header["input_modes"]
        self.features = int(np.prod(self.input_modes))
        # The gate factor multiplies the first output mode.
        self.output_modes = list(self.header["output_modes"])
        self.output_modes[0] *= self.gates
        self.outputs = int(np.prod(self.output_modes))

    def tensor(self, name):
        entry = self.header["tensors"][name]
        data = np.fromfile(os.path.join(self.folder, entry["file"]), dtype=DTYPES[entry["dtype"]])
        return data.reshape(entry["shape"])

    def pixels(self, dtype=np.float32):
        """Frames `[B, T, M]` in 0..1."""
        out = self.tensor("x").astype(dtype)
        out *= dtype(self.header["pixel_scale"])
        return out

    def core_shapes(self):
        """`(m_k, r_k, r_{k-1}, n_k)` for k = 1..d: the axes of a core as it lies in the flat vector."""
        return [
            (m, self.ranks[k + 1], self.ranks[k], self.output_modes[k]) for k, m in enumerate(self.input_modes)
        ]

    def cores(self):
        """Cores `[r_{k-1}, m_k, n_k, r_k]`, first core first."""
        flat, cores, offset = self.tensor("cores"), [], 0
        for shape in reversed(self.core_shapes()):
            size = int(np.prod(shape))
            cores.append(np.ascontiguousarray(flat[offset : offset + size].reshape(shape).transpose(2, 0, 3, 1)))
            offset += size
        return cores[::-1]

    def format_shapes(self, format):
        """Axes of the cores of a format beside the train, in the order of its flat vector."""
        rank, blocks = self.header["formats"][format], self.header["blocks"]
        modes = [*self.input_modes, *self.output_modes]
        if format == "tr-split":
            return [(rank, mode, rank) for mode in modes]
        if format == "cp-split":
            return [(mode, rank) for mode in modes]
        if format == "bt":
            factors = [(m, n, blocks, rank) for m, n in zip(self.input_modes, self.output_modes, strict=True)]
            return [*factors, (blocks, *[rank] * len(self.input_modes))]
        raise ValueError(format)

    def format_cores(self, format):
        """The cores of a format, as [`Case.format_shapes`] says."""
        flat, cores, offset = self.tensor(f"cores.{format}"), [], 0
        for shape in self.format_shapes(format):
            size = int(np.prod(shape))
            cores.append(flat[offset : offset + size].reshape(shape))
            offset += size
        return cores

    def flat_cores(self, cores):
        """The inverse of [`Case.cores`]: last core first, each `[m_k r_k, r_{k-1} n_k]`."""
        return np.concatenate([np.asarray(core).transpose(1, 3, 0, 2).ravel() for core in reversed(cores)])


def write_tensors(folder, tensors):
    """Writes `{name: array}` as f32 blobs; returns the list that goes into the reply."""
    os.makedirs(folder, exist_ok=True)
    written = []
    for name, array in tensors.items():
        array = np.ascontiguousarray(array, dtype="<f4")
        array.tofile(os.path.join(folder, f"{name}.f32"))
        written.append({"name": name, "file": f"{name}.f32", "dtype": "f32", "shape": list(array.shape)})
    return written
