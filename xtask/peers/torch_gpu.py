"""PyTorch's versions of a training step for `cargo xtask bench gpu`: one JSON line in, one out.

Commands: init {device, batch, frames, quick}, prepare {model}, run {model, version}. A step is forward, cross-entropy,
backward and Adam; its time is taken with the device's work done. The frames are u8 on the device, as ours.

Versions: `merged` (cores multiplied pairwise into two products over all frames, then a loop over time), `merged_compile`
(the same through torch.compile), `merged_cudnn` (the two products, then cuDNN's GRU or LSTM, whose input matrix is the
identity and does not train; cuDNN resets after U, which is another function of the same cost), and for the dense
models `cudnn` (torch.nn.GRU or LSTM over the frames).
"""

import json
import sys
import time

import torch
from torch import nn

CLASSES = 11


def sizes(quick):
    if quick:
        return dict(inputs=(4, 5, 6, 3), outputs=(2, 2, 2, 2), rank=4)
    return dict(inputs=(8, 20, 20, 18), outputs=(4, 4, 4, 4), rank=4)


class MergedTrain(nn.Module):
    """y = (x / 128 - 1) W with W a train of four cores, multiplied in pairs first."""

    def __init__(self, inputs, outputs, rank, gates):
        super().__init__()
        outputs = (outputs[0] * gates, *outputs[1:])
        ranks = (1, rank, rank, rank, 1)
        self.inputs, self.outputs, self.ranks = inputs, outputs, ranks
        cores = [torch.empty(ranks[k], inputs[k], outputs[k], ranks[k + 1]).uniform_(-0.23, 0.23) for k in range(4)]
        self.cores = nn.ParameterList([nn.Parameter(core) for core in cores])

    def forward(self, x):
        a, b, c, d = self.cores
        m, n, r = self.inputs, self.outputs, self.ranks
        left = torch.einsum("imna,ajob->mjbno", a, b)
        left = left.reshape(m[0] * m[1] * r[2], n[0] * n[1])
        right = torch.einsum("imna,ajob->mjino", c, d).reshape(m[2] * m[3], r[2] * n[2] * n[3])
        frames = x.shape[0]
        x = x.float().mul_(1 / 128).sub_(1).reshape(frames * m[0] * m[1], m[2] * m[3])
        t = (x @ right).reshape(frames, m[0] * m[1] * r[2], n[2] * n[3])
        return (left.t() @ t).reshape(frames, n[0] * n[1] * n[2] * n[3])


class Loop(nn.Module):
    """GRU (reset before U) or LSTM over precomputed pre-activations [B, T, G H]."""

    def __init__(self, cell, hidden):
        super().__init__()
        gates = 3 if cell == "gru" else 4
        self.cell, self.hidden = cell, hidden
        self.u = nn.Parameter(torch.nn.init.orthogonal_(torch.empty(hidden, gates * hidden)))
        self.b = nn.Parameter(torch.zeros(gates * hidden))

    def step(self, x, h, c):
        n = self.hidden
        if self.cell == "gru":
            zr = torch.sigmoid(x[:, : 2 * n] + h @ self.u[:, : 2 * n])
            z, r = zr[:, :n], zr[:, n:]
            candidate = torch.tanh(x[:, 2 * n :] + (r * h) @ self.u[:, 2 * n :])
            return z * h + (1 - z) * candidate, c
        i, f, g, o = (x + h @ self.u).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def forward(self, x):
        h = c = x.new_zeros(x.shape[0], self.hidden)
        for row in (x + self.b).unbind(1):
            h, c = self.step(row, h, c)
        return h


class Model(nn.Module):
    def __init__(self, name, version, quick):
        super().__init__()
        s = sizes(quick)
        self.train_of = name.startswith("tt-")
        cell = name.removeprefix("tt-")
        gates = 3 if cell == "gru" else 4
        hidden = 1
        for n in s["outputs"]:
            hidden *= n
        features = 1
        for m in s["inputs"]:
            features *= m
        self.version = version
        rnn = nn.GRU if cell == "gru" else nn.LSTM
        if self.train_of:
            self.layer = MergedTrain(**s, gates=gates)
            if version == "merged_cudnn":
                self.rnn = rnn(gates * hidden, hidden, batch_first=True)
                with torch.no_grad():
                    self.rnn.weight_ih_l0.copy_(torch.eye(gates * hidden))
                self.rnn.weight_ih_l0.requires_grad_(False)
            else:
                self.rnn = Loop(cell, hidden)
                if version == "merged_compile":
                    self.layer = torch.compile(self.layer)
                    self.rnn.step = torch.compile(self.rnn.step)
        else:
            self.rnn = rnn(features, hidden, batch_first=True)
        self.classifier = nn.Linear(hidden, CLASSES)

    def forward(self, x):
        batch, frames, features = x.shape
        if self.train_of:
            x = self.layer(x.reshape(batch * frames, features)).reshape(batch, frames, -1)
        else:
            x = x.float().mul_(1 / 128).sub_(1)
        if isinstance(self.rnn, Loop):
            return self.classifier(self.rnn(x))
        return self.classifier(self.rnn(x)[0][:, -1])


class Bench:
    def __init__(self, request):
        self.device = torch.device(request["device"])
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("this PyTorch has no CUDA")
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        self.quick = request["quick"]
        features = 1
        for m in sizes(self.quick)["inputs"]:
            features *= m
        shape = (request["batch"], request["frames"], features)
        self.x = torch.randint(0, 256, shape, dtype=torch.uint8, device=self.device)
        self.labels = torch.arange(request["batch"], device=self.device) % CLASSES
        self.made = {}

    def name(self):
        return torch.cuda.get_device_name() if self.device.type == "cuda" else str(self.device)

    def done(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def step(self, model, optimizer):
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(model(self.x), self.labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    def prepare(self, name):
        # Those of the model before would only hold memory.
        self.made = {}
        versions, failed = [], {}
        wanted = ["merged", "merged_compile", "merged_cudnn"] if name.startswith("tt-") else ["cudnn"]
        for version in wanted:
            try:
                model = Model(name, version, self.quick).to(self.device)
                fused = self.device.type == "cuda"
                trained = [p for p in model.parameters() if p.requires_grad]
                optimizer = torch.optim.Adam(trained, lr=1e-4, fused=fused)
                for _ in range(2):
                    self.step(model, optimizer)
                self.made[version] = (model, optimizer)
                versions.append(version)
            except Exception as error:  # a version that this PyTorch cannot run is left out, with its reason
                failed[version] = f"{type(error).__name__}: {error}"[:400]
        return {"versions": ["torch_" + version for version in versions], "failed": failed}

    def run(self, version):
        made = self.made[version.removeprefix("torch_")]
        self.done()
        started = time.perf_counter()
        self.step(*made)
        self.done()
        return {"ms": (time.perf_counter() - started) * 1e3}


def answer(bench, request):
    if request["cmd"] == "init":
        bench.append(Bench(request))
        return {"version": torch.__version__, "name": bench[0].name()}
    if request["cmd"] == "prepare":
        return bench[0].prepare(request["model"])
    return bench[0].run(request["version"])


def main():
    bench = []
    for line in sys.stdin:
        try:
            reply = answer(bench, json.loads(line))
        except Exception as error:  # whatever it is, the other side says it
            reply = {"error": f"{type(error).__name__}: {error}"[:400]}
        print(json.dumps(reply), flush=True)


main()
