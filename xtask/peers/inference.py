"""A peer of `cargo xtask bench inference`: the graph of form `step` frame by frame, on one thread.

python inference.py onnxruntime|openvino GRAPH FRAMES; then a JSON line per command, as worker.py answers.
"""

import json
import os
import sys
import time

import numpy as np


def onnxruntime(path):
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    shapes = {i.name: i.shape for i in session.get_inputs()}
    return runtime.__version__, shapes, lambda feeds: dict(zip(names, session.run(names, feeds)))


def openvino(path):
    import openvino as runtime

    core = runtime.Core()
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    model = core.read_model(path)
    shapes = {i.get_any_name(): [d.get_length() if d.is_static else 1 for d in i.partial_shape] for i in model.inputs}
    # Shapes that are fixed, as a program for one camera would have them.
    model.reshape({name: [1, *shape[1:]] for name, shape in shapes.items()})
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    names = [output.get_any_name() for output in model.outputs]

    def run(feeds):
        request.infer(feeds, share_inputs=True, share_outputs=True)
        # The request's memory is used again: the state is copied before the next frame writes into it.
        return {name: np.array(request.get_tensor(name).data) for name in names}

    return runtime.__version__.split("-")[0], shapes, run


class Peer:
    def __init__(self, runtime, graph, frames):
        os.environ["OMP_NUM_THREADS"] = "1"
        self.version, self.shapes, self.step = {"onnxruntime": onnxruntime, "openvino": openvino}[runtime](graph)
        self.frames = np.fromfile(frames, np.uint8).reshape(-1, 1, *self.shapes["frame"][1:])

    def clip(self):
        """Seconds of each frame, and the probabilities after the last."""
        state = {n: np.zeros((1, s[1]), np.float32) for n, s in self.shapes.items() if n != "frame"}
        seconds = []
        for frame in self.frames:
            begin = time.perf_counter()
            out = self.step({"frame": frame, **state})
            seconds.append(time.perf_counter() - begin)
            state = {name: out[f"{name}_next"] for name in state}
        return seconds, out["probabilities"][0].tolist()


def main():
    peer = Peer(*sys.argv[1:])
    for line in sys.stdin:
        if json.loads(line)["cmd"] == "init":
            reply = {"version": peer.version, "probabilities": peer.clip()[1]}
        else:
            reply = {"frame_s": peer.clip()[0]}
        print(json.dumps({"ok": True, **reply}), flush=True)


main()
