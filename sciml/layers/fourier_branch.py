"""Features of a function from its lowest Fourier coefficients."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.layers.dense_stack import Activation, DenseStack
from sciml.layers.quadrature import axis_weights
from solvers.grid import Axis, Grid


class FourierBranch(nn.Module):
    """b(a) = DenseStack(a_hat), a_hat[k] = mean of a phi_k over the domain.

    Input [b, in_channels, *space], output [b, features]. The phi_k are products of one function for
    each axis, orthonormal in that mean: of 1 and root 2 times (cos, sin)(2 pi k s), k = 1 .. modes,
    along a periodic axis, of 1 and root 2 times cos(pi k s), k = 1 .. 2 modes, along another, s
    being the coordinate scaled to [0, 1]. Cosines continue a function evenly, without a jump at the
    sides. These coefficients belong to the function and not to a grid: there are no sensors. Those
    that a grid does not hold are 0.
    """

    def __init__(
        self,
        in_channels: int,
        features: int,
        grid: Grid,
        *,
        modes: int | Sequence[int] = 8,
        widths: Sequence[int] = (128, 128),
        activation: Activation = "gelu",
    ):
        super().__init__()
        self.modes = (modes,) * grid.ndim if isinstance(modes, int) else tuple(modes)
        if len(self.modes) != grid.ndim or min(self.modes) < 1:
            raise ValueError(
                f"FourierBranch: modes={modes} must be a number per axis of {grid.shape}, at "
                "least 1 each."
            )
        sizes = tuple(2 * m + 1 for m in self.modes)
        if any(size >= n for size, n in zip(sizes, grid.shape, strict=True)):
            raise ValueError(
                f"FourierBranch: modes={modes} needs more than {sizes} points, the data have "
                f"{grid.shape}; lower the modes or raise the resolution."
            )
        self.layers = DenseStack((in_channels * math.prod(sizes), *widths, features), activation)

    def forward(self, a: Tensor, grid: Grid) -> Tensor:
        return self.layers(self.coefficients(a, grid).flatten(1))

    def coefficients(self, a: Tensor, grid: Grid) -> Tensor:
        """a_hat [b, in_channels, *(2 modes + 1)]."""
        for axis, modes in zip(grid.axes, self.modes, strict=True):
            matrix = (_functions(axis, modes) * axis_weights(axis)).to(a.device, a.dtype)
            a = torch.tensordot(a, matrix, dims=([2], [1]))  # the axis goes to the end
        return a


def _functions(axis: Axis, modes: int) -> Tensor:
    """[2 modes + 1, size], those that the axis does not hold being 0."""
    s = (axis.coordinates() - axis.lower) / axis.length
    if axis.is_periodic:
        k = torch.arange(1, modes + 1, dtype=torch.float64)
        angle = 2 * math.pi * torch.outer(k, s)
        waves = torch.cat((angle.cos(), angle.sin())) * (2 * k < axis.size).repeat(2)[:, None]
    else:
        k = torch.arange(1, 2 * modes + 1, dtype=torch.float64)
        waves = torch.outer(math.pi * k, s).cos() * (k < axis.size - 1)[:, None]
    return torch.cat((torch.ones_like(s)[None], math.sqrt(2) * waves))
