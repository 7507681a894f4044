"""The TT layers of PyTorch libraries, each as its users call it, with our cores inside."""

import importlib.metadata
import os
import sys

import numpy as np
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


class Torchtt(TorchRecurrent):
    """torchtt.nn.LinearLayerTT, whose bias stays 0."""

    def make(self, case):
        import torchtt

        self.modes = list(case.input_modes)
        self.net = torchtt.nn.LinearLayerTT(self.modes, list(case.output_modes), list(case.ranks))
        self.net.bias.requires_grad_(False)
        # Its cores are [r_{k-1}, n_k, m_k, r_k].
        self.cores = list(self.net.cores)
        with torch.no_grad():
            for own, core in zip(self.cores, case.cores(), strict=True):
                own.copy_(torch.from_numpy(core).transpose(1, 2))

    def layer(self, x):
        return self.net(x.unflatten(-1, self.modes)).flatten(-len(self.modes))

    def core_gradients(self):
        return [core.grad.transpose(1, 2).numpy() for core in self.cores]

    def versions(self):
        return super().versions() | {"torchtt": importlib.metadata.version("torchtt")}


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


class TednetFormat(TorchRecurrent):
    """A layer of tednet in another format than the train. A subclass says where its numbers are in our cores."""

    format = None

    def make(self, case):
        self.net = self.build(case)
        # `(parameter, core, index)`: the parameter is that part of the core, its axes as `axes` says.
        self.places = list(self.parts())
        self.cores = [parameter for parameter, _, _ in self.places]
        values = case.format_cores(self.format)
        with torch.no_grad():
            for parameter, core, index in self.places:
                parameter.copy_(torch.from_numpy(self.axes(core, values[core][index]).copy()))

    def axes(self, _core, part):
        """The axes of a part in the order of the other side."""
        return part

    def layer(self, x):
        return self.net(x)

    def flat_gradients(self):
        gradients = [np.zeros(shape, np.float32) for shape in self.case.format_shapes(self.format)]
        for parameter, core, index in self.places:
            gradients[core][index] = self.axes(core, parameter.grad.numpy())
        return np.concatenate([gradient.ravel() for gradient in gradients])

    def versions(self):
        return super().versions() | {"tednet": importlib.metadata.version("tednet")}


class TednetRing(TednetFormat):
    """tednet.tnn.tensor_ring.TRLinear: nodes [r_k, mode, r_{k+1}], of the input, then of the output."""

    format = "tr-split"

    def build(self, case):
        from tednet.tnn.tensor_ring import TRLinear

        modes = len(case.input_modes) + len(case.output_modes)
        ranks = [case.header["formats"][self.format]] * modes
        return TRLinear(case.input_modes, case.output_modes, ranks, bias=False)

    def parts(self):
        modes = len(self.case.input_modes) + len(self.case.output_modes)
        return ((getattr(self.net, f"node{k}"), k, ...) for k in range(modes))


class TednetBlocks(TednetFormat):
    """tednet.tnn.bt_tucker.BTTLinear: of each block factors [m, n, r] and a core [r_d, .., r_1].

    Its core is written down the other way round, and contracted so: with equal ranks nothing else shows it.
    """

    format = "bt"

    def axes(self, core, part):
        return part.T if core == len(self.case.input_modes) else part

    def build(self, case):
        from tednet.tnn.bt_tucker import BTTLinear

        ranks = [case.header["formats"][self.format]] * len(case.input_modes)
        return BTTLinear(case.input_modes, case.output_modes, ranks, case.header["blocks"], bias=False)

    def parts(self):
        modes = len(self.case.input_modes)
        for block in range(self.case.header["blocks"]):
            for k in range(modes):
                yield getattr(self.net, f"factor{k}_block{block}"), k, (slice(None), slice(None), block)
            yield getattr(self.net, f"core_block{block}"), modes, block


class TednetCanonical(TednetFormat):
    """tednet.tnn.cp.CPLinear: of each term a vector for every mode."""

    format = "cp-split"

    def build(self, case):
        from tednet.tnn.cp import CPLinear

        rank = case.header["formats"][self.format]
        return CPLinear(case.input_modes, case.output_modes, rank, bias=False)

    def parts(self):
        modes = len(self.case.input_modes) + len(self.case.output_modes)
        for term in range(self.case.header["formats"][self.format]):
            for k in range(modes):
                yield getattr(self.net, f"node{k}_block{term}"), k, (slice(None), term)


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
