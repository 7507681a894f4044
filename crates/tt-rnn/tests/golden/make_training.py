"""Makes training_<model>.safetensors: `pip install torch`, then `python make_training.py`.

Twenty Adam steps of GRU, LSTM, TT-GRU and TT-LSTM on fixed batches of u8 frames, in PyTorch and float64, from
float32 weights that are stored with the losses. The TT layer is the loop of the released code (Tuyki/TT_RNN,
TTLayer.py); GRU with the reset gate before U and h' = z*h + (1-z)*c; gates are hard sigmoids of slope 0.2; Adam as
Kingma and Ba's section 2 (and Keras), with penalty 0.01 on the classifier's weights.
"""

import torch

from make_golden import save

torch.manual_seed(20170807)
STEPS, BATCHES, LENGTHS, CLASSES, LR, L2, EPSILON = 20, 4, [5, 1, 8, 3], 3, 1e-2, 0.01, 1e-8
M, N, R = [2, 3, 4], [2, 3, 2], [1, 3, 3, 1]
FEATURES, HIDDEN = 24, 12


def draw(*shape, size=1.0):
    """Uniform values that float32 holds exactly."""
    return ((torch.rand(*shape) * 2 - 1) * size).float().double()


def train_layer(x, kernel, n):
    """The released loop: cores last first in one flat vector, a transpose after every product."""
    offset, res = 0, x
    for k in reversed(range(len(M))):
        rows, columns = M[k] * R[k + 1], R[k] * n[k]
        core = kernel[offset : offset + rows * columns].reshape(rows, columns)
        offset += rows * columns
        res = (res.reshape(-1, rows) @ core).reshape(-1, n[k]).t()
    return res.reshape(-1, x.shape[0]).t()


def hard(x):
    return torch.clip(0.2 * x + 0.5, 0, 1)


def last_states(x, u, b, gates):
    """x: [sum T, G*H] before bias; returns the last states [B, H]."""
    last = []
    for rows in x.split(LENGTHS):
        h = c = torch.zeros(HIDDEN, dtype=torch.float64)
        for row in rows:
            a = (row + b).split(HIDDEN)
            v = u.split(HIDDEN, dim=1)
            if gates == 3:
                z, r = hard(a[0] + h @ v[0]), hard(a[1] + h @ v[1])
                h = z * h + (1 - z) * torch.tanh(a[2] + (r * h) @ v[2])
            else:
                i, f = hard(a[0] + h @ v[0]), hard(a[1] + h @ v[1])
                g, o = torch.tanh(a[2] + h @ v[2]), hard(a[3] + h @ v[3])
                c = f * c + i * g
                h = o * torch.tanh(c)
        last.append(h)
    return torch.stack(last)


def main():
    frames = torch.randint(0, 256, (BATCHES, sum(LENGTHS), FEATURES)).double()
    labels = torch.randint(0, CLASSES, (BATCHES, len(LENGTHS)))
    for model, gates in [("gru", 3), ("lstm", 4), ("tt-gru", 3), ("tt-lstm", 4)]:
        n = [N[0] * gates] + N[1:]
        length = sum(M[k] * R[k + 1] * R[k] * n[k] for k in range(len(M)))
        train = model.startswith("tt-")
        weights = {
            "input.cores" if train else "input.kernel":
                draw(length, size=0.6) if train else draw(FEATURES, gates * HIDDEN, size=0.3),
            "recurrent": draw(HIDDEN * gates * HIDDEN + gates * HIDDEN, size=0.4),
            "classifier.kernel": draw(HIDDEN, CLASSES, size=0.6),
            "classifier.bias": draw(CLASSES, size=0.1),
        }
        start = {name: value.clone() for name, value in weights.items()}
        parameters = [value.requires_grad_() for value in weights.values()]
        optimizer, losses = torch.optim.Adam(parameters, lr=LR), []
        for step in range(STEPS):
            w, recurrent, kernel, bias = parameters
            x = frames[step % BATCHES] / 127.5 - 1
            gate_inputs = train_layer(x, w, n) if train else x @ w
            u = recurrent[: HIDDEN * gates * HIDDEN].reshape(HIDDEN, gates * HIDDEN)
            h = last_states(gate_inputs, u, recurrent[HIDDEN * gates * HIDDEN :], gates)
            loss = torch.nn.functional.cross_entropy(h @ kernel + bias, labels[step % BATCHES])
            losses.append(loss.detach())
            optimizer.zero_grad()
            (loss + L2 * (kernel * kernel).sum()).backward()
            optimizer.param_groups[0]["eps"] = EPSILON / (1 - 0.999 ** (step + 1)) ** 0.5
            optimizer.step()
        save(
            f"training_{model}.safetensors",
            start | {"frames": frames, "labels": labels, "losses": torch.stack(losses)},
        )


if __name__ == "__main__":
    main()
