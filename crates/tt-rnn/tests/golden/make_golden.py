"""Makes the golden tensors of this folder: `pip install torch`, then `python make_golden.py`.

Everything is computed in float64 from float32 inputs and stored as float32 in safetensors files.
- gru_T.safetensors: a GRU with the reset gate before U and h' = z*h + (1-z)*c, written out below, because
  torch.nn.GRU applies the reset gate after U. Gradients by autograd.
- lstm_T.safetensors: torch.nn.LSTM itself on packed sequences, its weights laid out as ours.
- adam.safetensors: torch.optim.Adam; epsilon is divided by sqrt(1 - beta2^t) at each step, which turns
  PyTorch's form into that of Kingma and Ba's section 2 (and Keras).
"""

import json
import struct

import torch

H = 6


def save(path, tensors):
    """The safetensors format: header length, JSON header, little-endian data."""
    header, blobs, at = {}, [], 0
    for name, tensor in tensors.items():
        blob = tensor.detach().to(torch.float32).contiguous().numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def draw(*shape, size=1.0):
    """Uniform values that float32 holds exactly."""
    return ((torch.rand(*shape) * 2 - 1) * size).float().double()


def gru(x, lengths, u, b):
    """x: [sum T, 3H] before bias; u: [H, 3H]; returns the last states [B, H]."""
    last = []
    for rows in x.split(lengths):
        h = torch.zeros(H, dtype=torch.float64)
        for row in rows:
            xz, xr, xc = (row + b).split(H)
            uz, ur, uc = u.split(H, dim=1)
            z = torch.sigmoid(xz + h @ uz)
            r = torch.sigmoid(xr + h @ ur)
            c = torch.tanh(xc + (r * h) @ uc)
            h = z * h + (1 - z) * c
        last.append(h)
    return torch.stack(last)


def lstm(x, lengths, u, b):
    """The same through torch.nn.LSTM, whose gates are [i | f | g | o] too and whose weights are transposed."""
    net = torch.nn.LSTM(4 * H, H).double()
    clips = torch.nn.utils.rnn.pack_sequence(list(x.split(lengths)), enforce_sorted=False)
    weights = {
        "weight_ih_l0": torch.eye(4 * H, dtype=torch.float64),
        "weight_hh_l0": u.t(),
        "bias_ih_l0": b,
        "bias_hh_l0": torch.zeros(4 * H, dtype=torch.float64),
    }
    _, (h, _) = torch.func.functional_call(net, weights, (clips,))
    return h[0]


def main():
    torch.manual_seed(20170806)
    for cell, gates, run in [("gru", 3, gru), ("lstm", 4, lstm)]:
        for frames in [4, 16, 64]:
            lengths = [frames, max(1, frames * 2 // 3), 1]
            x = draw(sum(lengths), gates * H, size=1.5).requires_grad_()
            u = draw(H, gates * H, size=0.7).requires_grad_()
            b = draw(gates * H, size=0.5).requires_grad_()
            dlast = draw(len(lengths), H)
            last = run(x, lengths, u, b)
            (last * dlast).sum().backward()
            save(
                f"{cell}_{frames}.safetensors",
                {
                    "lengths": torch.tensor(lengths, dtype=torch.float32),
                    "x": x, "u": u, "b": b, "dlast": dlast,
                    "last": last, "dx": x.grad, "du": u.grad, "db": b.grad,
                },
            )

    STEPS, N, LR, L2, EPSILON = 12, 37, 0.01, 0.02, 1e-3
    p = draw(N).requires_grad_()
    start, grads, trace = p.detach().clone(), draw(STEPS, N), []
    optimizer = torch.optim.Adam([p], lr=LR, eps=EPSILON)
    for t in range(STEPS):
        optimizer.param_groups[0]["eps"] = EPSILON / (1 - 0.999 ** (t + 1)) ** 0.5
        p.grad = grads[t] + 2 * L2 * p.detach()
        optimizer.step()
        trace.append(p.detach().clone())
    state = optimizer.state[p]
    save(
        "adam.safetensors",
        {"start": start, "grads": grads, "trace": torch.stack(trace), "m": state["exp_avg"], "v": state["exp_avg_sq"]},
    )


if __name__ == "__main__":
    main()
