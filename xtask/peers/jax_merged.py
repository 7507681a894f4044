"""JAX on the CPU: last two cores merged, `jit`, the recurrence as `lax.scan`."""

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np


class Merged:
    def __init__(self, case, _threads):
        self.case = case
        self.x = jax.device_put(case.pixels())  # [B, T, M]
        self.r = jax.device_put(case.tensor("r"))
        self.parameters = jax.device_put((case.cores(), case.tensor("u"), case.tensor("b")))
        cell = gru if case.cell == "gru" else lstm

        def hidden(parameters, x):
            cores, u, b = parameters
            gates = layer(cores, x.reshape(-1, case.features)) + b
            return cell(gates.reshape(case.batch, case.frames, -1).swapaxes(0, 1), u)

        def loss(parameters, x, r):
            h = hidden(parameters, x)
            return (h * r).sum(), h

        self.hidden = jax.jit(hidden)
        self.gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))

    def versions(self):
        return {"jax": jax.__version__, "jaxlib": jaxlib.__version__}

    def forward(self):
        return self.hidden(self.parameters, self.x).block_until_ready()

    def step(self):
        return jax.block_until_ready(self.gradients(self.parameters, self.x, self.r))

    def outputs(self):
        (_, h), (cores, u, b) = self.step()
        np.testing.assert_allclose(self.forward(), h, rtol=1e-4, atol=1e-5)
        return {"h": h, "d_cores": self.case.flat_cores(cores), "d_u": u, "d_b": b}


def layer(cores, x):
    """`[F, M]` -> `[F, N]`."""
    first, second, third, fourth = cores
    merged = jnp.einsum("amnb,bpqc->mpanq", third, fourth)  # [m_3, m_4, r_2, n_3, n_4]
    m34, n34 = merged.shape[0] * merged.shape[1], merged.shape[3] * merged.shape[4]
    _, m1, _, _ = first.shape
    _, m2, _, rank_2 = second.shape
    t = x.reshape(-1, m34) @ merged.reshape(m34, -1)
    t = t.reshape(-1, m1, m2, rank_2, n34)  # [F, m_1, m_2, r_2, n_34]
    t = jnp.einsum("fkmbq,amnb->fkanq", t, second)
    t = jnp.einsum("fkanq,okpa->fpnq", t, first)
    return t.reshape(x.shape[0], -1)


def gru(steps, u):
    """Gates `[T, B, 3H]`, reset before U."""
    n = u.shape[0]

    def step(h, gates):
        z, r = jnp.split(jax.nn.sigmoid(gates[:, : 2 * n] + h @ u[:, : 2 * n]), 2, 1)
        c = jnp.tanh(gates[:, 2 * n :] + (r * h) @ u[:, 2 * n :])
        return z * h + (1 - z) * c, None

    return jax.lax.scan(step, jnp.zeros((steps.shape[1], n)), steps)[0]


def lstm(steps, u):
    """Gates `[T, B, 4H]`, order [i | f | g | o]."""
    zeros = jnp.zeros((steps.shape[1], u.shape[0]))

    def step(state, gates):
        h, c = state
        i, f, g, o = jnp.split(gates + h @ u, 4, 1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    return jax.lax.scan(step, (zeros, zeros), steps)[0][0]
