"""Features of a function from its values at sensors."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from sciml.layers.dense_stack import Activation, DenseStack
from sciml.layers.interpolation import resample
from solvers.grid import Grid


class PerceptronBranch(nn.Module):
    """b(a) = DenseStack(a(x_1), ..., a(x_m)): [b, in_channels, *space] -> [b, features].

    The sensors x_j are the points of `grid`, or those of the same domain with `sensors` points per
    axis. A function on any other grid is read at them by multilinear interpolation (`resample`).
    `widths` are those of the hidden layers; without any the map is affine, and linear at first.
    """

    def __init__(
        self,
        in_channels: int,
        features: int,
        grid: Grid,
        *,
        widths: Sequence[int] = (128, 128),
        sensors: int | Sequence[int] | None = None,
        activation: Activation = "gelu",
    ):
        super().__init__()
        self.sensors = sensor_grid(grid, sensors)
        values = in_channels * math.prod(self.sensors.shape)
        self.layers = DenseStack((values, *widths, features), activation)

    def forward(self, a: Tensor, grid: Grid) -> Tensor:
        return self.layers(resample(a, grid, self.sensors).flatten(1))


def sensor_grid(grid: Grid, sensors: int | Sequence[int] | None) -> Grid:
    """The domain of `grid` with `sensors` points, one number for all axes or one for each."""
    if sensors is None:
        return grid
    shape = (sensors,) * grid.ndim if isinstance(sensors, int) else tuple(sensors)
    if len(shape) != grid.ndim or min(shape) < 2:
        raise ValueError(
            f"sensors={sensors} must be a number per axis of {grid.shape}, at least 2 each."
        )
    return grid.resized(shape)
