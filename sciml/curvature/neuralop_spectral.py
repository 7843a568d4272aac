"""Spectral convolutions of neuraloperator as Kronecker blocks, one for each Fourier mode."""

import math
import sys
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.curvature.tokens import Call, Layer, Tokens, trainable
from sciml.layers.fusion import is_still

MODULE = "neuralop.layers.spectral_convolution"


class Contraction(nn.Module):
    """What `SpectralConv._contract` of neuraloperator does, as a module whose calls can be seen.

    It stands in the convolution between `install` and `remove` alone, outside of its submodules.
    """

    def __init__(self, convolution: nn.Module):
        super().__init__()
        self._convolution, self._function = (convolution,), None  # no submodule: it would be a ring

    def install(self) -> None:
        convolution = self._convolution[0]
        self._function = convolution._contract
        vars(convolution)["_contract"] = self

    def remove(self) -> None:
        self._convolution[0]._contract = self._function

    def forward(self, spectrum: Tensor, weight: nn.Module, separable: bool) -> Tensor:
        return self._function(spectrum, weight, separable=separable)


class NeuralopLayer(Layer):
    """The dense complex weights [in, out, *modes] of neuraloperator's `SpectralConv`: the factors
    of `SpectralLayer`, from the library's own spectra. Modes that a coarse grid does not have are
    without tokens in that pass.

    On grids of odd size the library shifts frequencies wrongly, and s_k may be off by two there.
    Not for separable convolutions, complex fields and factorised weights.
    """

    kind = "spectral (neuraloperator)"
    is_complex = has_modes = True

    def __init__(self, module: nn.Module):
        self.contraction = Contraction(module)
        self.modules = {"convolution": [module], "contraction": [self.contraction]}
        self.parameters = [module.weight.tensor]
        i, o, *self.spectrum = module.weight.tensor.shape
        self.shape = (math.prod(self.spectrum), i, o)

    def tokens(self, calls: dict[str, list[Call]]) -> Tokens:
        contractions, s = calls["contraction"], None
        found = []
        for call, convolution in zip(contractions, calls["convolution"], strict=True):
            v, g = call.arguments[0].detach().to(call.gradient.dtype), call.gradient
            found.append((self._embedded(v), self._embedded(g)))
            grid = convolution.arguments[0].shape[2:]
            s = multiplicity(v.shape[2:], grid).to(g.device, g.real.dtype)
            s = self._embedded(s[None, None]).view(-1)
        v, g = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
        return Tokens(v.conj(), g, s)

    def _embedded(self, x: Tensor) -> Tensor:
        """[b, c, *kept modes] as [K, b, c], zeros for modes that are not kept."""
        kept = x.shape[2:]
        if list(kept) != self.spectrum:
            whole = x.new_zeros(*x.shape[:2], *self.spectrum)
            starts = [(n - k) // 2 for n, k in zip(self.spectrum[:-1], kept[:-1], strict=True)]
            slices = [slice(start, start + k) for start, k in zip([*starts, 0], kept, strict=True)]
            whole[(..., *slices)] = x
            x = whole
        return x.flatten(2).permute(2, 0, 1)

    def join(self, tensors: list[Tensor]) -> Tensor:
        return torch.view_as_complex(tensors[0]).flatten(2).permute(2, 0, 1)

    def split(self, matrices: Tensor) -> list[Tensor]:
        shape = self.parameters[0].shape
        return [torch.view_as_real(matrices.permute(1, 2, 0).reshape(shape).resolve_conj())]


def multiplicity(kept: Sequence[int], grid: Sequence[int]) -> Tensor:
    """s_k of `SpectralLayer`, [*kept]: 1 where -k is kept too, or is k, else 1/2.

    Modes of the last axis are k >= 0; of the others n k from -(n // 2) on.
    """
    ranges = [torch.arange(n) - n // 2 for n in kept[:-1]] + [torch.arange(kept[-1])]
    paired = torch.ones(tuple(kept), dtype=torch.bool)
    for axis, (k, n) in enumerate(zip(ranges, grid, strict=True)):
        partner = (-k) % n
        own = (partner[:, None] == k % n).any(dim=1)
        paired &= own.view(-1, *(1 for _ in ranges[axis + 1 :]))
    return torch.where(paired, 1.0, 0.5)


def is_neuralop(module: nn.Module) -> bool:
    """Whether it is a convolution that `NeuralopLayer` knows, with weights to learn."""
    library = sys.modules.get(MODULE)  # imported by whoever made the module
    if library is None or not is_still(module, library.SpectralConv):
        return False
    tensor = getattr(module.weight, "tensor", None)
    known = isinstance(tensor, nn.Parameter) and tensor.is_complex() and trainable(tensor)
    return known and not module.separable and not module.complex_data
