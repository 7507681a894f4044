"""The Tensor-Train layer as a module of PyTorch, on the compiled kernel. On the CPU, in f32."""

from math import prod

import torch
from torch.autograd.function import once_differentiable

from ._native import Layer


class _Apply(torch.autograd.Function):
    """`(scale · rows + shift) W` and its gradients."""

    @staticmethod
    def forward(ctx, rows, cores, layer, outputs, keep):
        out = torch.empty(len(rows), outputs, dtype=torch.float32)
        kept = layer.forward(rows.detach().numpy(), cores.detach().numpy(), out.numpy(), keep)
        ctx.save_for_backward(rows, cores)
        ctx.layer, ctx.kept = layer, kept
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        rows, cores = ctx.saved_tensors
        dcores = torch.empty_like(cores)
        drows = torch.empty_like(rows) if ctx.needs_input_grad[0] else None
        arrays = [rows.detach().numpy(), cores.detach().numpy()]
        gradients = [dcores.numpy(), None if drows is None else drows.numpy()]
        ctx.layer.backward(*arrays, ctx.kept, dout.detach().contiguous().numpy(), *gradients)
        return drows, dcores, None, None, None


class TTLinear(torch.nn.Module):
    """`y = (scale · x + shift) W + b`, with W `[M, N]` as a Tensor Train; x is f32 or uint8, `[…, M]`.

    `input_modes` multiply to M and `output_modes` to N; `rank` is one for all (less where modes allow less), or a list
    r_0 … r_d. `cores` is one flat parameter, the last core first; `core(k)` is a view of core k,
    `[m_k, r_k, r_{k-1}, n_k]`, k = 1 … d. `scale` and `shift` bring bytes to the layer's range: they cost nothing.
    Initial values follow from `seed`.
    """

    def __init__(self, input_modes, output_modes, rank, bias=True, scale=1.0, shift=0.0, seed=0):
        super().__init__()
        modes = self.input_modes, self.output_modes = list(input_modes), list(output_modes)
        self._affine = scale, shift
        self._layer = Layer(*modes, rank, *self._affine)
        self.ranks = self._layer.ranks
        self.in_features, self.out_features = map(prod, modes)
        self.cores = torch.nn.Parameter(torch.tensor(self._layer.initial(seed)))
        self.bias = torch.nn.Parameter(torch.zeros(self.out_features)) if bias else None

    # For `copy` and `pickle`: the compiled layer holds sizes and workspaces, and is made anew.
    def __getstate__(self):
        return self.__dict__ | {"_layer": None}

    def __setstate__(self, state):
        super().__setstate__(state)
        self._layer = Layer(self.input_modes, self.output_modes, self.ranks, *self._affine)

    def core(self, k):
        """A view of core k, counted from 1, `[m_k, r_k, r_{k-1}, n_k]`."""
        shapes = list(zip(self.input_modes, self.ranks[1:], self.ranks, self.output_modes))
        if not 1 <= k <= len(shapes):
            raise IndexError(f"TTLinear has cores 1 to {len(shapes)}, not {k}")
        start = sum(prod(shape) for shape in shapes[k:])
        return self.cores[start : start + prod(shapes[k - 1])].view(shapes[k - 1])

    def forward(self, x):
        if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.uint8):
            raise TypeError(f"TTLinear takes float32 or uint8 on the CPU, not {x.dtype} on {x.device}")
        if self.cores.device.type != "cpu" or self.cores.dtype != torch.float32:
            raise TypeError(f"TTLinear's cores stay float32 on the CPU, not {self.cores.dtype} on {self.cores.device}")
        if x.shape[-1] != self.in_features:
            raise ValueError(f"TTLinear takes rows of {self.in_features} numbers, not of {x.shape[-1]}")
        rows = x.reshape(-1, self.in_features).contiguous()
        # Within `_Apply` gradients are never recorded: whether they are is asked here.
        keep = torch.is_grad_enabled() and (rows.requires_grad or self.cores.requires_grad)
        y = _Apply.apply(rows, self.cores, self._layer, self.out_features, keep)
        y = y if self.bias is None else y + self.bias
        return y.reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self):
        return f"{self.input_modes} -> {self.output_modes}, ranks {self.ranks}, bias={self.bias is not None}"
