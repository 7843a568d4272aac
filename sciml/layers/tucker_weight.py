"""Weights of a spectral convolution in Tucker form."""

import math
from collections.abc import Sequence

import torch
from scipy.optimize import brentq
from torch import Tensor, nn

from sciml.layers.factorized_weight import (
    FactorizedWeight,
    copy_complex,
    explicit_ranks,
    normal,
)


class TuckerWeight(FactorizedWeight):
    """R[k1 .. kd, i, o] = sum G[a1 .. ad, p, q] U1[k1, a1] .. Ud[kd, ad] V[i, p] W[o, q]

    [Kossaifi et al. 2023, arXiv:2310.00120]; with `layers` one more axis and factor in front. The
    core G and one factor per axis are stored.

    `rank` is the number of parameters as a fraction of those of the dense tensor: an axis of n
    points gets the rank round(c n), at least 1, with the c that solves

        c^N prod n + c sum n^2 = rank prod n

    for the N axes (rounding makes the fraction approximate). This is the rule of tensorly, so
    the counts are those of the published code. Or it lists a rank for each of the axes
    ([layers,] *modes, in, out); ranks above n are cut to n.
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
        self.ranks = tucker_ranks(self.shape, rank)
        variance = (self._variance() / math.prod(self.ranks)) ** (1 / (len(self.shape) + 1))
        self.core = normal(self.ranks, variance)
        self.factors = nn.ParameterList(
            normal((n, r), variance) for n, r in zip(self.shape, self.ranks, strict=True)
        )

    def dense(self, layer: int | None = None) -> Tensor:
        core, *modes, left, right = self._factors(layer)
        return _expand(left @ core @ right.T, modes)

    def contract_factors(self, spectrum: Tensor, layer: int | None = None) -> Tensor:
        core, *modes, left, right = self._factors(layer)
        return torch.matmul(spectrum @ left, _expand(core, modes)) @ right.T

    def multiplications(self, batch: int) -> tuple[int, int]:
        *ranks, p, q = self.ranks[0 if self.layers is None else 1 :]
        i, o, points = self.in_channels, self.out_channels, math.prod(self.spectrum)
        expansion = sum(
            math.prod(self.spectrum[: j + 1]) * math.prod(ranks[j:]) for j in range(len(ranks))
        )
        factors = expansion * p * q + points * batch * (i * p + p * q + q * o)
        channels = math.prod(ranks) * (i * p * q + i * q * o)
        return factors, channels + expansion * i * o + points * batch * i * o

    def approximate(self, dense: Tensor) -> None:
        """By the higher-order SVD: the leading singular vectors of every unfolding."""
        core = dense = self._checked(dense)
        for axis, (factor, rank) in enumerate(zip(self.factors, self.ranks, strict=True)):
            unfolded = dense.movedim(axis, 0).flatten(1)
            vectors = torch.linalg.svd(unfolded @ unfolded.mH).U[:, :rank]
            copy_complex(factor, vectors)
            core = torch.tensordot(core, vectors.conj(), ([axis], [0])).movedim(-1, axis)
        copy_complex(self.core, core)

    def _factors(self, layer: int | None) -> list[Tensor]:
        """Core [*ranks of modes, p, q] of a layer and the factors of the other axes, complex."""
        core, *factors = map(torch.view_as_complex, (self.core, *self.factors))
        for index in self._layer(layer):
            first, *factors = factors
            core = torch.tensordot(first[index], core, 1)
        return [core, *factors]


def _expand(core: Tensor, factors: Sequence[Tensor]) -> Tensor:
    """[*ranks, p, q] times the factors [modes, rank] of its leading axes: [*modes, p, q]."""
    *_, p, q = core.shape
    done = 1
    for factor in factors:
        core = torch.matmul(factor, core.reshape(done, factor.shape[1], -1))
        done *= factor.shape[0]
    return core.reshape(*(factor.shape[0] for factor in factors), p, q)


def tucker_ranks(shape: Sequence[int], rank: float | Sequence[int]) -> tuple[int, ...]:
    """The ranks of the axes, see `TuckerWeight`."""
    ranks = explicit_ranks(rank, len(shape), "TuckerWeight")
    if ranks is None:
        size, squares = math.prod(shape), sum(n * n for n in shape)
        c = brentq(lambda c: size * c ** len(shape) + squares * c - rank * size, 0, max(rank, 1))
        ranks = [max(round(c * n), 1) for n in shape]
    return tuple(min(r, n) for r, n in zip(ranks, shape, strict=True))
