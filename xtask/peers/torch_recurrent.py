"""What all PyTorch peers share: the loop over time, the loss and the training step."""

import numpy as np
import torch


class TorchRecurrent:
    """A TT layer over all frames at once, then the loop. A peer says how its layer is made and applied."""

    # Relative and absolute difference of h between a forward pass and a step, at most.
    CLOSE = (1e-4, 1e-5)

    def __init__(self, case, threads):
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        self.case = case
        self.x = torch.from_numpy(case.pixels())  # [B, T, M]
        self.u, self.b = (torch.from_numpy(case.tensor(name)).requires_grad_() for name in ("u", "b"))
        self.r = torch.from_numpy(case.tensor("r"))
        self.make(case)

    def make(self, case):
        """Builds the layer; by default the cores `[r_{k-1}, m_k, n_k, r_k]` as leaves."""
        self.cores = [torch.from_numpy(core).requires_grad_() for core in case.cores()]

    def layer(self, x):
        """`[F, M]` -> `[F, N]`, no bias."""
        raise NotImplementedError

    def parameters(self):
        return [*self.cores, self.u, self.b]

    def core_gradients(self):
        """Gradients `[r_{k-1}, m_k, n_k, r_k]`, first core first."""
        return [core.grad.numpy() for core in self.cores]

    def flat_gradients(self):
        """Gradients of all cores as one vector."""
        return self.case.flat_cores(self.core_gradients())

    def versions(self):
        return {"torch": torch.__version__}

    def hidden(self):
        """`h_T [B, H]`."""
        case = self.case
        gates = self.layer(self.x.reshape(-1, case.features)) + self.b  # [B·T, N]
        steps = gates.reshape(case.batch, case.frames, -1).unbind(1)
        return self.loop(steps)

    def loop(self, steps):
        """`h_T [B, H]` from the gates of each step."""
        return (gru if self.case.cell == "gru" else lstm)(steps, self.u, self.case.batch)

    def forward(self):
        with torch.no_grad():
            return self.hidden()

    def step(self):
        for parameter in self.parameters():
            parameter.grad = None
        h = self.hidden()
        (h * self.r).sum().backward()
        return h

    def outputs(self):
        h = self.step().detach().float().numpy()
        rtol, atol = self.CLOSE
        np.testing.assert_allclose(self.forward().float().numpy(), h, rtol=rtol, atol=atol)
        d_cores = self.flat_gradients()
        return {"h": h, "d_cores": d_cores, "d_u": self.u.grad.numpy(), "d_b": self.b.grad.numpy()}


def gru(steps, u, batch):
    """Reset before U, order [z | r | h]: h' = z h + (1 - z) tanh(g_h + (r h) U_h)."""
    n = u.shape[0]
    u_zr, u_h = u[:, : 2 * n].contiguous(), u[:, 2 * n :].contiguous()
    h = torch.zeros(batch, n)
    for gates in steps:
        h = gru_step(gates, h, u_zr, u_h)
    return h


def gru_step(gates, h, u_zr, u_h):
    """The next h."""
    n = h.shape[1]
    g_zr, g_h = gates.split([2 * n, n], 1)
    z, r = torch.addmm(g_zr, h, u_zr).sigmoid().chunk(2, 1)
    c = torch.addmm(g_h, r * h, u_h).tanh()
    return torch.lerp(c.to(h.dtype), h, z.to(h.dtype))  # z h + (1 - z) c


def lstm(steps, u, batch):
    """Order [i | f | g | o]."""
    h = c = torch.zeros(batch, u.shape[0])
    for gates in steps:
        h, c = lstm_step(gates, h, c, u)
    return h


def lstm_step(gates, h, c, u):
    """The next h and c."""
    i, f, g, o = torch.addmm(gates, h, u).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c
