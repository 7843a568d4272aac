"""What the factorised weights of a spectral convolution have in common."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

BATCH = 8


class FactorizedWeight(nn.Module, ABC):
    """R[k] [in, out] for each of the modes k as a product of small complex tensors; abstract.

    It stands where `DenseWeight` does. With `layers`, one tensor [layers, *modes, in, out] holds
    the weights of so many convolutions, and `dense` and `contract` ask for the number of one;
    `JointWeights` hands them out. All factors are stored as real numbers [..., 2]. They start
    with equal variances, such that the entries of R have the mean 0 and the variance
    2 / (in + out) of `DenseWeight`.

    `contract` multiplies by factor after factor, or by R after making it, whichever takes fewer
    multiplications for `BATCH` samples: a choice made once, so that a result does not depend on
    how many samples are computed together. A fused `FourierBlock` makes R in any case.
    """

    def __init__(
        self, spectrum: Sequence[int], in_channels: int, out_channels: int, layers: int | None
    ):
        super().__init__()
        self.spectrum, self.layers = tuple(spectrum), layers
        self.in_channels, self.out_channels = in_channels, out_channels
        stacked = () if layers is None else (layers,)
        self.shape = (*stacked, *self.spectrum, in_channels, out_channels)

    @property
    def dtype(self) -> torch.dtype:
        """Of the fields, real."""
        return next(self.parameters()).dtype

    @abstractmethod
    def dense(self, layer: int | None = None) -> Tensor:
        """R as a complex tensor [*modes, in, out]."""

    def contract(self, spectrum: Tensor, layer: int | None = None) -> Tensor:
        """sum_i spectrum[k, b, i] R[k, i, o] of a complex [*modes, b, in]: [*modes, b, out]."""
        if self.is_reconstructed:
            return torch.matmul(spectrum, self.dense(layer))
        return self.contract_factors(spectrum, layer)

    @abstractmethod
    def contract_factors(self, spectrum: Tensor, layer: int | None = None) -> Tensor:
        """The same without making R."""

    @abstractmethod
    def multiplications(self, batch: int) -> tuple[int, int]:
        """Complex ones for `batch` samples: by factors, and by R including those that make it."""

    @property
    def is_reconstructed(self) -> bool:
        factors, dense = self.multiplications(BATCH)
        return dense < factors

    @abstractmethod
    def approximate(self, dense: Tensor) -> None:
        """Take the factors of a complex tensor [*modes, in, out], or [layers, *modes, in, out],
        exactly where the ranks allow it. This is how a trained FNO is compressed.
        """

    def _checked(self, dense: Tensor) -> Tensor:
        """`dense` in double precision."""
        if tuple(dense.shape) != self.shape:
            raise ValueError(
                f"{type(self).__name__}: expected a tensor {self.shape}, got {tuple(dense.shape)}."
            )
        return dense.detach().to(torch.complex128)

    def _layer(self, layer: int | None) -> list[int]:
        """The index into the axis of layers, no index where there is no such axis."""
        if (layer is None) != (self.layers is None):
            raise ValueError(
                f"{type(self).__name__}: layer={layer}, but this tensor holds "
                f"{'one layer' if self.layers is None else f'{self.layers} layers'}."
            )
        return [] if layer is None else [layer]

    def _variance(self) -> float:
        """Of the real and imaginary parts of R together."""
        return 2 / (self.in_channels + self.out_channels)


def normal(shape: Sequence[int], variance: float) -> nn.Parameter:
    """Complex normal numbers as real pairs [*shape, 2]."""
    return nn.Parameter(math.sqrt(variance / 2) * torch.randn(*shape, 2))


def copy_complex(parameter: nn.Parameter, value: Tensor) -> None:
    """Write complex numbers into the pairs of a parameter."""
    with torch.no_grad():
        parameter.copy_(torch.view_as_real(value.resolve_conj()))


def explicit_ranks(rank: float | Sequence[int], count: int, kind: str) -> list[int] | None:
    """`rank` as a list of `count` ranks, None if it is a fraction."""
    if isinstance(rank, int | float):
        if not 0 < rank <= 1:
            raise ValueError(
                f"{kind}: rank={rank} must be a share of the dense parameters, above 0 and at "
                f"most 1; the ranks themselves are a list of {count}."
            )
        return None
    if len(rank) != count or min(rank) < 1:
        raise ValueError(
            f"{kind}: rank={list(rank)} must be a share up to 1 or {count} ranks of at least 1."
        )
    return list(rank)
