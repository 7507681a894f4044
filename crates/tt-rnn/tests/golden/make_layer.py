"""Makes tt_gru_T and tt_lstm_T.safetensors: `pip install torch`, then `python make_layer.py`.

The whole layer on bytes, in float64: the TT-matrix multiplied out by einsum, the recurrences of make_golden.py,
gradients by autograd.
"""

import torch
from make_golden import H, draw, gru, lstm, save

INPUTS, OUTPUTS, RANKS, SCALE, SHIFT = (2, 3, 4), (2, 1, 3), (1, 2, 3, 1), 1 / 256, -0.25


def train(cores, gates):
    """W [M, N] of the flat cores: the last core first, each [m_k, r_k, r_{k-1}, n_k], gates on n_1."""
    w, at = torch.ones(1, 1, 1, dtype=torch.float64), 0  # [columns, rows, r]
    for k in reversed(range(3)):
        n = OUTPUTS[k] * (gates if k == 0 else 1)
        shape = (INPUTS[k], RANKS[k + 1], RANKS[k], n)
        size = shape[0] * shape[1] * shape[2] * shape[3]
        core = cores[at : at + size].reshape(shape)
        at += size
        w = torch.einsum("mrln,jir->njmil", core, w).reshape(n * w.shape[0], -1, RANKS[k])
    return w[:, :, 0].t()


def main():
    torch.manual_seed(20170807)
    for cell, gates, run in [("gru", 3, gru), ("lstm", 4, lstm)]:
        for frames in [4, 16, 64]:
            lengths = [frames, max(1, frames * 2 // 3), 1]
            rows = torch.randint(0, 256, (sum(lengths), 24)).double()
            size = 4 * 3 * 3 + 3 * 3 * 2 + 2 * 2 * 2 * gates
            cores = draw(size).requires_grad_()
            u = draw(H, gates * H, size=0.7).requires_grad_()
            b = draw(gates * H, size=0.5).requires_grad_()
            dlast = draw(len(lengths), H)
            last = run((SCALE * rows + SHIFT) @ train(cores, gates), lengths, u, b)
            (last * dlast).sum().backward()
            save(
                f"tt_{cell}_{frames}.safetensors",
                {
                    "lengths": torch.tensor(lengths, dtype=torch.float32),
                    "rows": rows, "cores": cores, "u": u, "b": b, "dlast": dlast,
                    "last": last, "dcores": cores.grad, "du": u.grad, "db": b.grad,
                },
            )


if __name__ == "__main__":
    main()
