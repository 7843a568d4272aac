"""Convolution as multiplication of the lowest Fourier modes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sciml.layers.fourier_basis import FourierBasis
from sciml.layers.spectral_weight import DenseWeight


class SpectralConv(nn.Module):
    """(K v)(x) = Re sum_k w[k] exp(2 pi i k.x) R[k]^T v_hat[k] + bias   [Li et al. 2021, eq. 5].

    One complex matrix R[k] [in_channels, out_channels] for each kept mode; see `FourierBasis` for
    the modes, their order and the grids. Input and output have the points first, [*space, b, c].
    `weight`, called with (kept modes per axis, in, out), makes the module that holds R:
    `DenseWeight` or a factorised one. The bias is added to mode zero, which costs nothing.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        modes: Sequence[int],
        weight: Callable[[Sequence[int], int, int], nn.Module] = DenseWeight,
    ):
        super().__init__()
        self.modes = tuple(modes)
        spectrum = (*(2 * m for m in self.modes[:-1]), self.modes[-1] + 1)
        self.weight = weight(spectrum, in_channels, out_channels)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, basis: FourierBasis) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # there are no complex halves
            spectrum = self.weight.contract(basis.analyse(x.to(self.bias.dtype)))
            spectrum[(0,) * len(self.modes)] += self.bias
            return basis.synthesise(spectrum)
