"""Convolution as multiplication of the lowest Fourier modes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.layers.fourier_basis import FourierBasis


class SpectralConv(nn.Module):
    """(K v)(x) = Re sum_k w[k] exp(2 pi i k.x) R[k]^T v_hat[k] + bias   [Li et al. 2021, eq. 5].

    One complex matrix R[k] [in_channels, out_channels] for each kept mode; see `FourierBasis` for
    the modes, their order and the grids. Input and output have the points first, [*space, b, c].

    The weight is stored as real numbers [*modes, in, out, 2], because `Module.double` and
    optimisers with fused kernels pass complex parameters by. Initial entries are complex normal
    of variance 2 / (in + out). The bias is added to mode zero, which costs nothing.
    """

    def __init__(self, in_channels: int, out_channels: int, modes: Sequence[int]):
        super().__init__()
        self.modes = tuple(modes)
        spectrum = (*(2 * m for m in self.modes[:-1]), self.modes[-1] + 1)
        std = (1 / (in_channels + out_channels)) ** 0.5  # of the real and the imaginary part
        self.weight = nn.Parameter(std * torch.randn(*spectrum, in_channels, out_channels, 2))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, basis: FourierBasis) -> Tensor:
        weight = torch.view_as_complex(self.weight)
        with torch.autocast(x.device.type, enabled=False):  # there are no complex halves
            spectrum = torch.matmul(basis.analyse(x.to(self.weight.dtype)), weight)
            spectrum[(0,) * len(self.modes)] += self.bias
            return basis.synthesise(spectrum)
