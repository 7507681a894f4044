"""The specification in NumPy f64: the train multiplied out, back-propagation by hand.

Slow and obvious on purpose, and shares no arithmetic with any peer. It answers `check` only.
"""

import numpy as np

ROW_STRIDE = 64


def sigmoid(v):
    return 1.0 / (1.0 + np.exp(-v))


class Reference:
    def __init__(self, case, _threads):
        self.case = case

    def versions(self):
        return {"numpy": np.__version__}

    def outputs(self):
        """Everything any peer of the case can be compared with; suffix `.dense` / `.reset_after` as in README."""
        case = self.case
        out = {}
        if "cores" in case.header["tensors"]:
            out.update(self.solve(*self.train_matrix(), ""))
        for format in case.header.get("formats", {}):
            out.update(self.solve_format(format))
        if "w" in case.header["tensors"]:
            w = case.tensor("w").astype(np.float64)
            out.update(self.solve(w, None, ".dense"))
            if case.cell == "gru":
                out.update(self.solve(w, None, ".reset_after", reset_after=True))
        return out

    def solve_format(self, format):
        """The same with the matrix of another format: a sum over inner indices of products of cores."""
        case = self.case
        cores = [core.astype(np.float64) for core in case.format_cores(format)]
        d = len(case.input_modes)
        rows, columns = "abcd"[:d], "ghij"[:d]
        indices = {
            "tr-split": [f"{'rstuvwxy'[k]}{mode}{'rstuvwxyr'[k + 1]}" for k, mode in enumerate(rows + columns)],
            "cp-split": [mode + "r" for mode in rows + columns],
            "bt": [f"{rows[k]}{columns[k]}z{'rstu'[k]}" for k in range(d)] + ["zrstu"],
        }[format]
        w = np.einsum(",".join(indices) + "->" + rows + columns, *cores, optimize="optimal")
        out = self.solve(w.reshape(case.features, -1), None, f".{format}", rows_only=False)
        d_w = out.pop(f"d_w.{format}").reshape(w.shape)
        gradients = [
            np.einsum(
                ",".join([rows + columns] + indices[:k] + indices[k + 1 :]) + "->" + indices[k],
                d_w,
                *cores[:k],
                *cores[k + 1 :],
                optimize="greedy",
            )
            for k in range(len(cores))
        ]
        return out | {f"d_cores.{format}": np.concatenate([gradient.ravel() for gradient in gradients])}

    def train_matrix(self):
        """`W [M, N]` and the cores it came from."""
        cores = [core.astype(np.float64) for core in self.case.cores()]
        w = np.ones((1, 1, 1))  # [rows, columns, r]
        for core in cores:
            w = np.einsum("pqa,amnb->pmqnb", w, core)
            w = w.reshape(w.shape[0] * w.shape[1], w.shape[2] * w.shape[3], -1)
        return w[:, :, 0], cores

    def solve(self, w, cores, suffix, reset_after=False, rows_only=True):
        case = self.case
        x = case.pixels(np.float64).reshape(-1, case.features)  # [B·T, M]
        u, b, r = (case.tensor(name).astype(np.float64) for name in ("u", "b", "r"))
        gates = (x @ w + b).reshape(case.batch, case.frames, -1)
        backward = {"gru": gru_reset_after if reset_after else gru, "lstm": lstm}[case.cell]
        h, d_gates, d_u = backward(gates, u, r)
        d_w = x.T @ d_gates.reshape(len(x), -1)
        out = {"h": h, "d_u": d_u, "d_b": d_gates.sum((0, 1))}
        if cores is None and not rows_only:
            out["d_w"] = d_w
        elif cores is None:
            out["d_w_rows"] = d_w[::ROW_STRIDE]
        else:
            out["d_cores"] = case.flat_cores(core_gradients(d_w, cores))
        return {name + suffix: value for name, value in out.items()}


def core_gradients(d_w, cores):
    """Contracts `dW [M, N]` with all cores but one, for each core in turn."""
    d = len(cores)
    modes = [core.shape[1] for core in cores] + [core.shape[2] for core in cores]
    d_w = d_w.reshape(modes)
    rows, columns, ranks = "abcdef"[:d], "ghijkl"[:d], "rstuvwx"[: d + 1]
    indices = [ranks[k] + rows[k] + columns[k] + ranks[k + 1] for k in range(d)]
    return [
        np.einsum(
            ",".join([rows + columns] + indices[:k] + indices[k + 1 :] + [ranks[0], ranks[d]])
            + "->"
            + indices[k],
            d_w,
            *cores[:k],
            *cores[k + 1 :],
            np.ones(1),
            np.ones(1),
            optimize="optimal",
        )
        for k in range(d)
    ]


def gru(gates, u, r):
    """Reset before U (the paper): h' = z h + (1 - z) tanh(g_h + (r h) U_h)."""
    batch, frames, _ = gates.shape
    n = u.shape[0]
    h, saved = np.zeros((batch, n)), []
    for t in range(frames):
        zr = sigmoid(gates[:, t, : 2 * n] + h @ u[:, : 2 * n])
        z, reset = zr[:, :n], zr[:, n:]
        c = np.tanh(gates[:, t, 2 * n :] + (reset * h) @ u[:, 2 * n :])
        saved.append((h, z, reset, c))
        h = z * h + (1 - z) * c
    d_h, d_gates, d_u = r.copy(), np.empty_like(gates), np.zeros_like(u)
    for t in reversed(range(frames)):
        before, z, reset, c = saved[t]
        d_c = d_h * (1 - z) * (1 - c * c)
        d_reset_h = d_c @ u[:, 2 * n :].T
        d_zr = np.concatenate([d_h * (before - c) * z * (1 - z), d_reset_h * before * reset * (1 - reset)], 1)
        d_gates[:, t] = np.concatenate([d_zr, d_c], 1)
        d_u[:, : 2 * n] += before.T @ d_zr
        d_u[:, 2 * n :] += (reset * before).T @ d_c
        d_h = d_h * z + d_reset_h * reset + d_zr @ u[:, : 2 * n].T
    return h, d_gates, d_u


def gru_reset_after(gates, u, r):
    """torch.nn.GRU with a zero recurrent bias: the reset gate multiplies h U_h."""
    batch, frames, _ = gates.shape
    n = u.shape[0]
    h, saved = np.zeros((batch, n)), []
    for t in range(frames):
        hu = h @ u
        z = sigmoid(gates[:, t, :n] + hu[:, :n])
        reset = sigmoid(gates[:, t, n : 2 * n] + hu[:, n : 2 * n])
        c = np.tanh(gates[:, t, 2 * n :] + reset * hu[:, 2 * n :])
        saved.append((h, z, reset, c, hu[:, 2 * n :]))
        h = z * h + (1 - z) * c
    d_h, d_gates, d_u = r.copy(), np.empty_like(gates), np.zeros_like(u)
    for t in reversed(range(frames)):
        before, z, reset, c, hu = saved[t]
        d_c = d_h * (1 - z) * (1 - c * c)
        d_z = d_h * (before - c) * z * (1 - z)
        d_r = d_c * hu * reset * (1 - reset)
        d_gates[:, t] = np.concatenate([d_z, d_r, d_c], 1)
        d_hu = np.concatenate([d_z, d_r, d_c * reset], 1)
        d_u += before.T @ d_hu
        d_h = d_h * z + d_hu @ u.T
    return h, d_gates, d_u


def lstm(gates, u, r):
    """Gates [i | f | g | o]: c' = f c + i tanh(g), h' = o tanh(c')."""
    batch, frames, _ = gates.shape
    n = u.shape[0]
    h, c, saved = np.zeros((batch, n)), np.zeros((batch, n)), []
    for t in range(frames):
        a = gates[:, t] + h @ u
        i, f, o = sigmoid(a[:, :n]), sigmoid(a[:, n : 2 * n]), sigmoid(a[:, 3 * n :])
        g = np.tanh(a[:, 2 * n : 3 * n])
        saved.append((h, c, i, f, g, o))
        c = f * c + i * g
        h = o * np.tanh(c)
    d_h, d_c, d_gates, d_u = r.copy(), np.zeros_like(c), np.empty_like(gates), np.zeros_like(u)
    for t in reversed(range(frames)):
        before, c_before, i, f, g, o = saved[t]
        th = np.tanh(f * c_before + i * g)
        d_c = d_c + d_h * o * (1 - th * th)
        parts = [d_c * g * i * (1 - i), d_c * c_before * f * (1 - f), d_c * i * (1 - g * g), d_h * th * o * (1 - o)]
        d_gates[:, t] = np.concatenate(parts, 1)
        d_u += before.T @ d_gates[:, t]
        d_h, d_c = d_gates[:, t] @ u.T, d_c * f
    return h, d_gates, d_u
