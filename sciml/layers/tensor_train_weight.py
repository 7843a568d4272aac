"""Weights of a spectral convolution as a tensor train."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.layers.factorized_weight import (
    FactorizedWeight,
    copy_complex,
    explicit_ranks,
    normal,
)


class TensorTrainWeight(FactorizedWeight):
    """R[k1 .. kd, i, o] = V[i] W[o] G1[k1] .. Gd[kd]

    a product of matrices, V[i] [1, r1], W[o] [r1, r2], G1[k1] [r2, r3] and so on to a last one of
    one column [Kossaifi et al. 2023, arXiv:2310.00120]; with `layers` one more in front. The
    train runs through ([layers,] in, out, *modes), the order of the published code.

    `rank` is the number of parameters as a fraction of those of the dense tensor: the rank between
    two axes is c times their mean size, rounded, with the c that solves the quadratic equation for
    the number of parameters (the rule of tensorly). Or it lists the ranks between the axes. Ranks
    that no tensor needs are cut.
    """

    def __init__(
        self,
        spectrum: Sequence[int],
        in_channels: int,
        out_channels: int,
        *,
        rank: float | Sequence[int] = 0.1,
        layers: int | None = None,
    ):
        super().__init__(spectrum, in_channels, out_channels, layers)
        stacked = () if layers is None else (layers,)
        self.train_shape = (*stacked, in_channels, out_channels, *self.spectrum)
        self.ranks = tensor_train_ranks(self.train_shape, rank)
        variance = (self._variance() / math.prod(self.ranks)) ** (1 / len(self.shape))
        ends = zip((1, *self.ranks), self.train_shape, (*self.ranks, 1), strict=True)
        self.cores = nn.ParameterList(normal(sizes, variance) for sizes in ends)

    def dense(self, layer: int | None = None) -> Tensor:
        left, right, modes = self._cores(layer)
        channels = torch.tensordot(left, right, 1).flatten(0, 1)  # [in out, r2]
        return (modes @ channels.T).reshape(*self.spectrum, self.in_channels, self.out_channels)

    def contract_factors(self, spectrum: Tensor, layer: int | None = None) -> Tensor:
        left, right, modes = self._cores(layer)
        r1, o, _ = right.shape
        matrices = (modes @ right.flatten(0, 1).T).reshape(*self.spectrum, r1, o)
        return torch.matmul(spectrum @ left, matrices)

    def multiplications(self, batch: int) -> tuple[int, int]:
        r1, r2 = self.ranks[-len(self.spectrum) - 1 :][:2]
        i, o, points = self.in_channels, self.out_channels, math.prod(self.spectrum)
        factors = points * r1 * o * r2 + points * batch * (i * r1 + r1 * o)
        return factors, i * r1 * o * r2 + points * i * o * r2 + points * batch * i * o

    def approximate(self, dense: Tensor) -> None:
        """By successive SVDs [Oseledets 2011, SIAM J. Sci. Comput. 33(5), algorithm 1]."""
        first = 0 if self.layers is None else 1
        rest = self._checked(dense).movedim((-2, -1), (first, first + 1))
        before = 1
        for core, size, rank in zip(self.cores, self.train_shape, self.ranks, strict=False):
            u, s, v = torch.linalg.svd(rest.reshape(before * size, -1), full_matrices=False)
            copy_complex(core, u[:, :rank].reshape(before, size, rank))
            rest, before = s[:rank, None] * v[:rank], rank
        copy_complex(self.cores[-1], rest.reshape(before, self.train_shape[-1], 1))

    def _cores(self, layer: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """V [in, r1] of a layer, W [r1, out, r2] and the product of the others [modes, r2]."""
        cores = [torch.view_as_complex(core) for core in self.cores]
        for index in self._layer(layer):
            first, second, *rest = cores
            cores = [torch.tensordot(first[:, index], second, 1), *rest]
        left, right, *others = cores
        modes = others.pop()[..., 0]  # [r, modes of the last axis]
        for core in reversed(others):
            modes = torch.tensordot(core, modes, 1).flatten(1)
        return left[0], right, modes.T


def tensor_train_ranks(shape: Sequence[int], rank: float | Sequence[int]) -> tuple[int, ...]:
    """The ranks between the axes, see `TensorTrainWeight`."""
    ranks = explicit_ranks(rank, len(shape) - 1, "TensorTrainWeight")
    if ranks is None:
        mean = [(m + n) / 2 for m, n in zip(shape, shape[1:], strict=False)]
        a = sum(p * n * q for p, n, q in zip(mean, shape[1:], mean[1:], strict=False))
        b = shape[0] * mean[0] + shape[-1] * mean[-1]
        size = rank * math.prod(shape)
        c = (math.sqrt(b * b + 4 * a * size) - b) / (2 * a)
        ranks = [max(round(m * c), 1) for m in mean]
    left = right = 1
    for j in range(len(ranks)):
        ranks[j] = left = min(ranks[j], left * shape[j])
    for j in reversed(range(len(ranks))):
        ranks[j] = right = min(ranks[j], right * shape[j + 1])
    return tuple(ranks)
