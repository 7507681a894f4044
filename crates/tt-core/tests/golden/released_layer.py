"""Writes released_layer.csv: the TT layer of the released code (Tuyki/TT_RNN, TTLayer.py), in f64.

The forward loop is the released one: cores last first in one flat vector, core k a matrix
[m_k r_{k+1}, r_k n_k], and a transpose after every product. The backward pass undoes that loop step by step.
Columns: case, name, then the numbers. Run: python3 released_layer.py (numpy only).
"""

import csv
import pathlib

import numpy as np

CASES = {
    "gru": ([2, 3, 4, 3], [2, 2, 3, 2], [1, 3, 4, 2, 1], 3),
    "lstm": ([3, 2, 5], [4, 4, 2], [1, 4, 4, 1], 4),
    "plain": ([4, 3], [3, 2], [1, 5, 1], 1),
}
BATCH = 3


def layer(x, kernel, m, n, r):
    """The released loop; also returns each product's left side and core."""
    d, steps, offset, res = len(m), [], 0, x
    for k in reversed(range(d)):
        rows, columns = m[k] * r[k + 1], r[k] * n[k]
        core = kernel[offset : offset + rows * columns].reshape(rows, columns)
        offset += rows * columns
        left = res.reshape(-1, rows)
        steps.append((k, left, core))
        res = np.transpose((left @ core).reshape(-1, n[k]))
    return np.transpose(res.reshape(-1, x.shape[0])), steps


def gradients(dy, steps, n, x_shape):
    """The loop backwards: gradients of sum(y * dy)."""
    grad, pieces = np.transpose(dy).reshape(n[0], -1), []
    for k, left, core in reversed(steps):
        product = np.transpose(grad.reshape(n[k], -1)).reshape(left.shape[0], core.shape[1])
        pieces.append((left.T @ product).reshape(-1))
        grad = product @ core.T
    return np.concatenate(pieces[::-1]), grad.reshape(x_shape)


def main():
    rng = np.random.default_rng(2017)
    path = pathlib.Path(__file__).with_suffix(".csv")
    with open(path, "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        for case, (m, n, r, gates) in CASES.items():
            n_gates = [n[0] * gates] + n[1:]
            length = sum(m[k] * r[k + 1] * r[k] * n_gates[k] for k in range(len(m)))
            # f32 numbers, so that both sides start from the same ones.
            draw = lambda *shape: rng.uniform(-1, 1, shape).astype(np.float32).astype(np.float64)
            x, kernel, dy = draw(BATCH, np.prod(m)), draw(length), draw(BATCH, np.prod(n_gates))
            y, steps = layer(x, kernel, m, n_gates, r)
            dkernel, dx = gradients(dy, steps, n_gates, x.shape)
            for name, values in [
                ("input_modes", m), ("output_modes", n), ("ranks", r), ("gates", [gates]),
                ("x", x), ("cores", kernel), ("dy", dy), ("y", y), ("dcores", dkernel), ("dx", dx),
            ]:
                out.writerow([case, name] + [repr(v) for v in np.asarray(values).reshape(-1).tolist()])


if __name__ == "__main__":
    main()
