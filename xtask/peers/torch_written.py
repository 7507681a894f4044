"""PyTorch written by hand: the orders of contraction, the authors' formulation, and the dense layers."""

import numpy as np
import torch
from torch_recurrent import TorchRecurrent, gru, lstm

from reference import ROW_STRIDE


class RightToLeft(TorchRecurrent):
    """Last core first, the cheapest order: 1.93 M multiply-accumulates a UCF11 frame."""

    def layer(self, x):
        frames, after = x.shape[0], 1
        t = x  # [F · m_1 … m_k, r_k, n_{k+1} … n_d]
        for core in reversed(self.cores):
            rank_in, m, n, rank_out = core.shape
            t = t.reshape(-1, m, rank_out, after)
            t = t.permute(0, 3, 1, 2).reshape(-1, m * rank_out)  # [F · m_1 … m_{k-1} · after, m_k r_k]
            t = t @ core.permute(1, 3, 0, 2).reshape(m * rank_out, rank_in * n)
            t = t.reshape(-1, after, rank_in, n).permute(0, 2, 3, 1)  # [.., r_{k-1}, n_k, after]
            after *= n
        return t.reshape(frames, -1)


class Merged(TorchRecurrent):
    """The last two cores multiplied first: twice the arithmetic, but one good matrix product."""

    def layer(self, x):
        first, second, third, fourth = self.cores
        merged = torch.einsum("amnb,bpqc->mpanq", third, fourth)  # [m_3, m_4, r_2, n_3, n_4]
        m34, n34 = merged.shape[0] * merged.shape[1], merged.shape[3] * merged.shape[4]
        rank_1, m2, n2, rank_2 = second.shape
        _, m1, n1, _ = first.shape
        t = x.reshape(-1, m34) @ merged.reshape(m34, -1)  # [F m_1 m_2, r_2 n_34]
        # The middle index is the contracted one, so nothing is transposed here; torch folds it into one product.
        t = second.permute(0, 2, 1, 3).reshape(rank_1 * n2, m2 * rank_2) @ t.reshape(-1, m2 * rank_2, n34)
        t = first.permute(0, 2, 1, 3).reshape(n1, m1 * rank_1) @ t.reshape(-1, m1 * rank_1, n2 * n34)
        return t.reshape(x.shape[0], -1)


class PerStep(TorchRecurrent):
    """The released Keras code: products and transposes, and the TT layer inside the loop over time."""

    def make(self, case):
        # Cores as matrices [m_k r_k, r_{k-1} n_k], as the authors keep them.
        self.cores = []
        for core, (m, rank_out, rank_in, n) in zip(case.cores(), case.core_shapes(), strict=True):
            matrix = np.ascontiguousarray(core.transpose(1, 3, 0, 2)).reshape(m * rank_out, rank_in * n)
            self.cores.append(torch.from_numpy(matrix).requires_grad_())

    def core_gradients(self):
        shapes = self.case.core_shapes()
        return [c.grad.numpy().reshape(s).transpose(2, 0, 3, 1) for c, s in zip(self.cores, shapes, strict=True)]

    def layer(self, x):
        batch, t = x.shape[0], x
        for core, n in zip(reversed(self.cores), reversed(self.case.output_modes), strict=True):
            t = t.reshape(-1, core.shape[0]) @ core
            t = t.reshape(-1, n).t()
        return t.reshape(-1, batch).t()

    def hidden(self):
        case = self.case
        steps = (self.layer(self.x[:, t]) + self.b for t in range(case.frames))
        return (gru if case.cell == "gru" else lstm)(steps, self.u, case.batch)


class Dense(TorchRecurrent):
    """torch.nn.GRU (reset after U: a different function from the paper's) or torch.nn.LSTM."""

    def make(self, case):
        n = case.hidden
        kind = torch.nn.GRU if case.cell == "gru" else torch.nn.LSTM
        self.net = kind(case.features, n, batch_first=True)
        # torch's GRU wants [r | z | n] where ours is [z | r | h]; the LSTM orders agree.
        order = [1, 0, 2] if case.cell == "gru" else [0, 1, 2, 3]
        self.columns = np.concatenate([np.arange(n) + gate * n for gate in order])
        with torch.no_grad():
            self.net.weight_ih_l0.copy_(torch.from_numpy(case.tensor("w")[:, self.columns].T))
            self.net.weight_hh_l0.copy_(self.u[:, self.columns].T)
            self.net.bias_ih_l0.copy_(self.b[self.columns])
            self.net.bias_hh_l0.zero_()

    def parameters(self):
        return self.net.parameters()

    def hidden(self):
        return self.net(self.x)[0][:, -1]

    def outputs(self):
        h = self.step().detach().numpy()
        back = np.argsort(self.columns)
        return {
            "h": h,
            "d_w_rows": self.net.weight_ih_l0.grad[:, ::ROW_STRIDE].numpy()[back].T,
            "d_u": self.net.weight_hh_l0.grad.numpy()[back].T,
            "d_b": self.net.bias_ih_l0.grad.numpy()[back],
        }
