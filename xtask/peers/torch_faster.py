"""`torch_merged` made faster: compiled, in bf16, with products of lower precision; and a prepared contraction."""

import opt_einsum
import torch
from torch_recurrent import TorchRecurrent, gru_step, lstm_step
from torch_written import Merged


class Compiled(Merged):
    """The layer and a step of the recurrence by torch.compile, which needs a C++ compiler on a CPU.

    The loop over time stays one: unrolled it is compiled for minutes, and for every T again.
    """

    def make(self, case):
        super().make(case)
        self.compiled_layer = torch.compile(super().layer, dynamic=False)
        self.compiled_step = torch.compile(gru_step if case.cell == "gru" else lstm_step, dynamic=False)

    def layer(self, x):
        return self.compiled_layer(x)

    def loop(self, steps):
        batch, n = self.case.batch, self.u.shape[0]
        h = c = torch.zeros(batch, n)
        if self.case.cell == "gru":
            u_zr, u_h = self.u[:, : 2 * n].contiguous(), self.u[:, 2 * n :].contiguous()
            for gates in steps:
                h = self.compiled_step(gates, h, u_zr, u_h)
        else:
            for gates in steps:
                h, c = self.compiled_step(gates, h, c, self.u)
        return h


class CompiledBf16(Compiled):
    """The same under autocast: products in bf16, sums in f32."""

    CLOSE = (0.1, 0.02)

    def hidden(self):
        with torch.autocast("cpu", torch.bfloat16):
            return super().hidden().float()


class Medium(Merged):
    """PyTorch's leave to do f32 products with factors of bf16, on processors that have such products."""

    CLOSE = (0.1, 0.02)

    def make(self, case):
        torch.set_float32_matmul_precision("medium")
        super().make(case)


class OptEinsum(TorchRecurrent):
    """The whole layer as one expression, whose order opt_einsum has prepared."""

    def make(self, case):
        super().make(case)
        self.expression = opt_einsum.contract_expression(
            "fabcd,iawj,jbxk,kcyl,ldzm->fwxyz",
            (case.batch * case.frames, *case.input_modes),
            *(core.shape for core in self.cores),
            optimize="optimal",
        )

    def layer(self, x):
        x = x.reshape(-1, *self.case.input_modes)
        return self.expression(x, *self.cores, backend="torch").reshape(x.shape[0], -1)

    def versions(self):
        return {**super().versions(), "opt_einsum": opt_einsum.__version__}
