"""The TT layers of PyTorch libraries, each as its users call it, with our cores inside."""

import importlib.metadata
import os
import sys

import torch
from torch_recurrent import TorchRecurrent


class TensorlyTorch(TorchRecurrent):
    """tltorch.FactorizedLinear, factorization "blocktt", implementation "factorized"."""

    def make(self, case):
        import tltorch

        self.net = tltorch.FactorizedLinear(
            in_tensorized_features=tuple(case.input_modes),
            out_tensorized_features=tuple(case.output_modes),
            bias=False,
            factorization="blocktt",
            rank=tuple(case.ranks),
            implementation="factorized",
        )
        # Its factors are [r_{k-1}, n_k, m_k, r_k].
        self.cores = list(self.net.weight.factors)
        with torch.no_grad():
            for factor, core in zip(self.cores, case.cores(), strict=True):
                factor.copy_(torch.from_numpy(core).transpose(1, 2))

    def layer(self, x):
        return self.net(x)

    def core_gradients(self):
        return [core.grad.transpose(1, 2).numpy() for core in self.cores]

    def versions(self):
        names = ("tensorly", "tensorly-torch", "opt_einsum")
        return super().versions() | {name: importlib.metadata.version(name) for name in names}


class Tednet(TorchRecurrent):
    """tednet.tnn.tensor_train.TTLinear."""

    def make(self, case):
        from tednet.tnn.tensor_train import TTLinear

        self.net = TTLinear(case.input_modes, case.output_modes, case.ranks[1:-1], bias=False)
        # Its nodes are [m, n, r_{k-1}, r_k] without the ranks at both ends.
        self.cores = [getattr(self.net, f"node{k}") for k in range(len(case.input_modes))]
        with torch.no_grad():
            for node, core in zip(self.cores, case.cores(), strict=True):
                node.copy_(torch.from_numpy(core).permute(1, 2, 0, 3).reshape(node.shape))

    def layer(self, x):
        return self.net(x)

    def core_gradients(self):
        shapes = self.case.core_shapes()
        return [
            node.grad.reshape(m, n, rank_in, rank_out).permute(2, 0, 1, 3).numpy()
            for node, (m, rank_out, rank_in, n) in zip(self.cores, shapes, strict=True)
        ]

    def versions(self):
        return super().versions() | {"tednet": importlib.metadata.version("tednet")}


class Tntorch(TorchRecurrent):
    """tntorch.tt_multiply with a tntorch.TTMatrix."""

    def make(self, case):
        import tntorch

        super().make(case)
        self.tntorch = tntorch
        self.matrix = tntorch.TTMatrix(self.cores, case.ranks[1:-1], case.input_modes, case.output_modes)

    def layer(self, x):
        return self.tntorch.tt_multiply(self.matrix, x)

    def versions(self):
        return super().versions() | {"tntorch": importlib.metadata.version("tntorch")}


class T3nsor(TorchRecurrent):
    """t3nsor.TTLinear of onucharles/tensorized-rnn, from a clone beside the environments."""

    def make(self, case):
        sys.path.insert(0, os.environ["TT_PEERS_T3NSOR"])
        import t3nsor

        cores = [torch.from_numpy(core) for core in case.cores()]
        train = t3nsor.TensorTrain(cores, convert_to_tensors=False)
        self.net = t3nsor.TTLinear(bias=False, init=train, auto_shapes=False)
        # It keeps the transpose: [r_{k-1}, n_k, m_k, r_k].
        self.cores = list(self.net.weight_t.tt_cores)

    def layer(self, x):
        return self.net(x)

    def core_gradients(self):
        return [core.grad.transpose(1, 2).numpy() for core in self.cores]
