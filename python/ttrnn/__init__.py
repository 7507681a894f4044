"""Models that `cargo xtask export` wrote, and the Tensor-Train layer, compiled: docs/python.md of the project.

`load(DIR)` needs numpy; `TTLinear` needs PyTorch, which is imported when it is first used: `import *` leaves it out.
"""

import json
from pathlib import Path

import numpy as np

from ._native import ModelError, Trained

__all__ = ["Model", "ModelError", "Stream", "load"]


def load(folder):
    """The model of a folder."""
    return Model(folder)


class Model:
    """A classifier of clips. `config` is what `config.json` says, `classes` the names in the order of the outputs."""

    def __init__(self, folder):
        self._trained = Trained(Path(folder))
        self.config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        self.classes = self.config["classes"]
        frames = self.config["frames"]
        self._size = (frames["height"], frames["width"], 3)

    def sample(self, frames):
        """Of a clip's frames those that the model is to see, of frames at the rate of the configuration."""
        return frames[self._trained.kept(len(frames))]

    def predict(self, frames):
        """Probabilities of the classes `[K]` of one clip, from uint8 frames `[T, height, width, 3]` (red, green,
        blue) as the model is to see them: see `sample`."""
        frames = np.ascontiguousarray(frames)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != self._size or len(frames) == 0:
            found = f"{frames.dtype} {frames.shape}"
            raise ModelError(f"frames are uint8 (T, {self._size}), at least one; found {found}")
        return np.array(self._trained.predict(frames))

    def stream(self):
        """The model frame by frame, at the beginning of a clip."""
        return Stream(self._trained.stream(), self._size)


class Stream:
    """A model that is given one frame after the other."""

    def __init__(self, stream, size):
        self._stream, self._size = stream, size
        self.restart = stream.restart

    def push(self, frame):
        """Probabilities of the classes `[K]` of the clip so far, after one more frame `[height, width, 3]`."""
        frame = np.ascontiguousarray(frame)
        if frame.dtype != np.uint8 or frame.shape != self._size:
            raise ModelError(f"a frame is uint8 {self._size}; found {frame.dtype} {frame.shape}")
        return np.array(self._stream.push(frame))


def __getattr__(name):
    # PyTorch is imported by those who use it.
    if name == "TTLinear":
        from .linear import TTLinear

        return TTLinear
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
