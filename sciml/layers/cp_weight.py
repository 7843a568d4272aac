"""Weights of a spectral convolution as a sum of products of vectors."""

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from sciml.layers.factorized_weight import (
    FactorizedWeight,
    copy_complex,
    explicit_ranks,
    normal,
)

ENTRYWISE = 10  # an entrywise product moves memory; it takes as long as so many in a matrix product


class CPWeight(FactorizedWeight):
    """R[k1 .. kd, i, o] = sum_r U1[k1, r] .. Ud[kd, r] V[i, r] W[o, r]

    the canonical polyadic form [Kossaifi et al. 2023, arXiv:2310.00120]; with `layers` one more
    axis and factor in front. `rank` is the number of parameters as a fraction of those of the
    dense tensor, r = round(rank prod n / sum n) for the sizes n of the axes, or a list with r
    alone. The published code stores a scale for each r as well, which the factors hold here.
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
        ranks = explicit_ranks(rank, 1, "CPWeight")
        fraction = math.prod(self.shape) / sum(self.shape)
        self.rank = ranks[0] if ranks else max(round(rank * fraction), 1)
        variance = (self._variance() / self.rank) ** (1 / len(self.shape))
        self.factors = nn.ParameterList(normal((n, self.rank), variance) for n in self.shape)

    def dense(self, layer: int | None = None) -> Tensor:
        modes, left, right = self._factors(layer)
        return (modes @ _rows((left, right)).T).reshape(
            *self.spectrum, self.in_channels, self.out_channels
        )

    def contract_factors(self, spectrum: Tensor, layer: int | None = None) -> Tensor:
        modes, left, right = self._factors(layer)
        scale = modes.reshape(*self.spectrum, 1, self.rank)
        return ((spectrum @ left) * scale) @ right.T

    def multiplications(self, batch: int) -> tuple[int, int]:
        i, o, points = self.in_channels, self.out_channels, math.prod(self.spectrum)
        product = ENTRYWISE * points * batch * self.rank
        factors = points * batch * self.rank * (i + o) + product
        return factors, self.rank * i * o * (1 + points) + points * batch * i * o

    def approximate(self, dense: Tensor, sweeps: int = 100) -> None:
        """By alternating least squares from the present factors; the best tensor of a rank is not
        known in closed form, so that other starts may end elsewhere.
        """
        dense = self._checked(dense)
        factors = [torch.view_as_complex(f.detach()).to(dense.dtype) for f in self.factors]
        for _ in range(sweeps):
            for axis in range(len(factors)):
                others = factors[:axis] + factors[axis + 1 :]
                gram = reduce(torch.mul, (f.mT @ f.conj() for f in others))
                product = dense.movedim(axis, 0).flatten(1) @ _rows(others).conj()
                factors[axis] = product @ torch.linalg.pinv(gram, hermitian=True)
            norms = torch.stack([f.norm(dim=0) for f in factors]).clamp_min(1e-300)
            mean = norms.log().mean(dim=0).exp()
            factors = [f * (mean / n) for f, n in zip(factors, norms, strict=True)]
        for parameter, factor in zip(self.factors, factors, strict=True):
            copy_complex(parameter, factor)

    def _factors(self, layer: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """All modes [number of modes, rank], scaled for a layer, and those of the channels."""
        factors = [torch.view_as_complex(f) for f in self.factors]
        for index in self._layer(layer):
            first, second, *rest = factors
            factors = [first[index] * second, *rest]
        *modes, left, right = factors
        return _rows(modes), left, right


def _rows(factors: Sequence[Tensor]) -> Tensor:
    """[n1, r], [n2, r], ... -> products [n1 n2 ..., r] in the order of a flattened tensor."""
    return reduce(lambda a, b: (a[:, None] * b[None]).flatten(0, 1), factors)
