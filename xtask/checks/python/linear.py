"""`ttrnn.TTLinear` against einsum in f64, and its time beside tensorly-torch's layer and the layer in Rust.

python linear.py ENGINE [RECORD], with `ttrnn`, torch and tensorly-torch installed; ENGINE is target/release/bench-suite, and
RECORD a CSV for the times.
"""

import copy
import io
import json
import os
import subprocess
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"

import torch  # noqa: E402
import ttrnn  # noqa: E402

TOLERANCE = 1e-5
ROWS = 256
ROUNDS = 15
# UCF11's layer, the three gates in the first output mode.
INPUT, OUTPUT, RANK = [8, 20, 20, 18], [12, 4, 4, 4], 4


def matrix(layer):
    """W `[M, N]` of a layer's cores in f64; gradients flow back."""
    whole = torch.ones(1, 1, 1, dtype=torch.float64)
    for k in range(1, len(layer.input_modes) + 1):
        whole = torch.einsum("iaj,mban->imbjn", whole, layer.core(k).double())
        whole = whole.reshape(whole.shape[0] * whole.shape[1], whole.shape[2], -1)
    return whole[:, 0]


def apart(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


def values_and_gradients():
    errors = []
    torch.manual_seed(0)
    shapes = [([4, 6], [2, 3], 2), ([5], [7], 1), ([3, 2, 6, 5], [2, 2, 2, 3], [1, 2, 4, 3, 1]), (INPUT, OUTPUT, RANK)]
    for input_modes, output_modes, rank in shapes:
        for dtype in [torch.float32, torch.uint8]:
            layer = ttrnn.TTLinear(input_modes, output_modes, rank, scale=1 / 127.5, shift=-1.0)
            torch.nn.init.uniform_(layer.bias)
            x = torch.randint(0, 256, (2, 3, layer.in_features)).to(dtype)
            weights = torch.rand(2, 3, layer.out_features)
            if dtype == torch.float32:
                x.requires_grad_()
            y = layer(x)
            (y * weights).sum().backward()
            found = [y.detach(), layer.cores.grad, layer.bias.grad] + ([x.grad] if x.requires_grad else [])
            layer.zero_grad()
            exact = x.detach().double().requires_grad_()
            z = (exact / 127.5 - 1) @ matrix(layer) + layer.bias.double()
            (z * weights).sum().backward()
            expected = [z.detach(), layer.cores.grad, layer.bias.grad] + ([exact.grad] if x.requires_grad else [])
            errors += [apart(a, b) for a, b in zip(found, expected, strict=True)]
    # Each by itself: max() may lose a NaN.
    assert all(error < TOLERANCE for error in errors), errors
    print(f"values and gradients are {max(errors):.1e} of the largest apart from einsum's")


def refusals():
    layer = ttrnn.TTLinear([4, 6], [2, 3], 2)
    x = torch.zeros(3, 24)
    for call, error, part in [
        (lambda: layer(x[:, 1:]), ValueError, "rows of 24"),
        (lambda: layer(x.double()), TypeError, "not torch.float64"),
        (lambda: copy.deepcopy(layer).double()(x), TypeError, "cores stay float32"),
        (lambda: layer.core(-1), IndexError, "cores 1 to 2, not -1"),
        (lambda: layer.core(0), IndexError, "not 0"),
        (lambda: layer.core(3), IndexError, "not 3"),
    ]:
        try:
            call()
        except error as reason:
            assert part in str(reason), reason
            continue
        raise SystemExit(f"what should be refused with {part!r} is not")


def copies():
    layer = ttrnn.TTLinear([3, 2, 6, 5], [2, 2, 2, 3], [1, 2, 4, 3, 1], scale=1 / 127.5, shift=-1.0)
    x = torch.randint(0, 256, (7, layer.in_features), dtype=torch.uint8)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for other in [copy.deepcopy(layer), torch.load(file, weights_only=False)]:
        assert torch.equal(other(x), layer(x)) and other.cores.data_ptr() != layer.cores.data_ptr()
        other(x).sum().backward()
        assert other.cores.grad is not None and layer.cores.grad is None


class Watched:
    """The compiled layer, and what it kept for the backward pass."""

    def __init__(self, layer):
        self.layer = layer

    def forward(self, *arguments):
        self.kept = self.layer.forward(*arguments)
        return self.kept


def graphs():
    layer = ttrnn.TTLinear([4, 6], [2, 3], 2)
    watched, x = Watched(layer._layer), torch.rand(5, 24)
    layer._layer = watched
    for mode, kept in [(torch.enable_grad, True), (torch.no_grad, False), (torch.inference_mode, False)]:
        with mode():
            layer(x)
        assert (watched.kept is not None) == kept, mode.__name__
    layer._layer = watched.layer
    # Several uses in one graph, with a graph of the first that is still needed.
    one, two = layer(x), layer(2 * x)
    (one.sum() + two.sum()).backward()
    both = layer.cores.grad.clone()
    layer.zero_grad()
    layer(3 * x).sum().backward()
    assert apart(both, layer.cores.grad) < TOLERANCE


class Rust:
    """The layer in Rust: as many rows in a process of its own, a time for each line."""

    def __init__(self, program):
        command = [program, "bench-layer", "--rows", str(ROWS), "--threads", "1"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def step(self):
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def timed(layer, x):
    """CPU seconds of a step: forward, and the gradients of the cores."""
    layer.zero_grad()
    begin = time.process_time()
    layer(x).sum().backward()
    return time.process_time() - begin


def speed(program, record=None):
    import tltorch

    torch.set_num_threads(1)
    ours = ttrnn.TTLinear(INPUT, OUTPUT, RANK, bias=False, scale=1 / 255)
    theirs = tltorch.FactorizedLinear(
        in_tensorized_features=tuple(INPUT),
        out_tensorized_features=tuple(OUTPUT),
        bias=False,
        factorization="blocktt",
        rank=tuple(ours.ranks),
        implementation="factorized",
    )
    frames = torch.randint(0, 256, (ROWS, ours.in_features), dtype=torch.uint8)
    floats = frames.float() / 255
    rust = Rust(program)
    samples = []
    for _ in range(ROUNDS):
        samples.append([timed(ours, frames), rust.step(), timed(theirs, floats)])
    # The least of interleaved rounds: the machine may be busy.
    ours_s, rust_s, theirs_s = (min(column) for column in zip(*samples[1:]))
    print(f"a step of {ROWS} rows: {ours_s * 1e3:.1f} ms in PyTorch, {rust_s * 1e3:.1f} ms in Rust ({rust_s / ours_s:.2f} times "
          f"ours), {theirs_s * 1e3:.1f} ms by tensorly-torch ({theirs_s / ours_s:.1f} times ours)")
    if record:
        versions = [f"torch {torch.__version__}", "ttrnn 0.1.0", f"tensorly-torch {tltorch.__version__}"]
        rows = zip(["ttrnn.TTLinear", "Rust", "tltorch.FactorizedLinear"], versions, [ours_s, rust_s, theirs_s])
        lines = [f"{name},{version},{ROWS},{ROUNDS},{s * 1e3:.2f},{s / ours_s:.2f}" for name, version, s in rows]
        with open(record, "w", encoding="utf-8") as file:
            print("layer,version,rows,rounds,cpu_ms_least,to_ours", *lines, sep="\n", file=file)


values_and_gradients()
refusals()
copies()
graphs()
speed(*sys.argv[1:])
