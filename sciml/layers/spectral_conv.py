"""Convolution as multiplication of the lowest Fourier modes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from sciml.layers.fourier_basis import FourierBasis
from sciml.layers.spectral_weight import DenseWeight


class SpectralConv(nn.Module):
    """(K v)(x) = Re sum_k w[k] exp(2 pi i k.x) R[k]^T v_hat[k] + bias   [Li et al. 2021, eq. 5].

    One complex matrix R[k] [in_channels, out_channels] for each kept mode; see `FourierBasis` for
    the modes, their order and the grids. Input and output have the points first, [*space, b, c].
    `weight`, called with (kept modes per axis, in, out), makes the module that holds R:
    `DenseWeight` or a factorised one. The bias is added to mode zero, which costs nothing.

    `mixing` is where R is applied: its forward hooks see the truncated spectrum of v, complex
    [*modes, b, in], its backward hooks the gradient of the mixed one, complex [*modes, b, out].
    The gradient of R[k] is conj(first)^T second.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        modes: Sequence[int],
        weight: Callable[[Sequence[int], int, int], nn.Module] = DenseWeight,
        bias: bool = True,
    ):
        super().__init__()
        self.modes = tuple(modes)
        spectrum = (*(2 * m for m in self.modes[:-1]), self.modes[-1] + 1)
        self.weight, self.mixing = weight(spectrum, in_channels, out_channels), Mixing()
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def forward(self, x: Tensor, basis: FourierBasis) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # there are no complex halves
            spectrum = basis.analyse(x.to(self.weight.dtype))
            spectrum = self.mixing(spectrum, self.weight)
            if self.bias is not None:
                spectrum = add_mean(spectrum, self.bias)
            return basis.synthesise(spectrum)


class Mixing(nn.Module):
    """sum_i spectrum[k, b, i] R[k, i, o] by the module that holds R."""

    def forward(self, spectrum: Tensor, weight: nn.Module) -> Tensor:
        return weight.contract(spectrum)


def add_mean(spectrum: Tensor, mean: Tensor) -> Tensor:
    """The spectrum [*modes, b, c] of a field to which mean [c] is added."""
    *modes, b, c = spectrum.shape
    rest = [k for size in reversed(modes) for k in (0, size - 1)]
    return spectrum + pad(mean.expand(*[1] * len(modes), b, c), (0, 0, 0, 0, *rest))
