"""Exported graphs in onnx's checker, onnxruntime and OpenVINO against the probabilities of this project's programs.

python xtask/checks/onnx/compare.py CASES; leaves the errors in CASES/errors.csv.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino

TOLERANCE = 1e-5
# What OpenVINO says of a GRU or LSTM with hard sigmoids: no wrong number is computed.
REFUSAL = "Unsupported activation function"


def in_onnxruntime(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, feeds)))


def in_openvino(path):
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [output.get_names() for output in compiled.outputs]
    return lambda feeds: {name: v for known, v in zip(names, compiled(feeds).values()) for name in known}


def answers(run, graph, clips):
    """Probabilities of clips `[B, T, H, W, 3]`, whatever the form."""
    inputs = {value.name: value.type.tensor_type.shape.dim for value in graph.input}
    if "frame" in inputs:
        states = {n: np.zeros((len(clips), d[1].dim_value), np.float32) for n, d in inputs.items() if n != "frame"}
        for frame in clips.swapaxes(0, 1):
            out = run({"frame": frame, **states})
            states = {name: out[f"{name}_next"] for name in states}
        return out["probabilities"]
    by_clip = len(inputs["frames"]) == 5 and inputs["frames"][0].dim_param == "B"
    return run({"frames": clips if by_clip else np.ascontiguousarray(clips.swapaxes(0, 1))})["probabilities"]


rows = []
for case in sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir()):
    path = case / "model.onnx"
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    expected = np.array(json.loads((case / "probabilities.json").read_text()))
    clips = np.fromfile(case / "clips.bin", np.uint8).reshape(len(expected), -1, 2, 4, 3)
    for runtime, load in [("onnxruntime", in_onnxruntime), ("openvino", in_openvino)]:
        try:
            error = np.abs(answers(load(str(path)), model.graph, clips) - expected).max()
        except RuntimeError as reason:
            if runtime != "openvino" or not case.name.endswith(".operator") or REFUSAL not in str(reason):
                raise
            rows.append((case.name, runtime, "refused"))
            print(f"{case.name:24} {runtime:12} refused: {REFUSAL}")
            continue
        rows.append((case.name, runtime, f"{error:.1e}"))
        print(f"{case.name:24} {runtime:12} {error:.1e}", "" if error < TOLERANCE else "WRONG")
        # Written so that NaN fails.
        if not error < TOLERANCE:
            sys.exit("a graph computes something else")
lines = ["case,program,error", *(",".join(row) for row in rows)]
(Path(sys.argv[1]) / "errors.csv").write_text("\n".join(lines) + "\n")
