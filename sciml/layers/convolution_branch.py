"""Features of a function by convolutions with strides."""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import pad

from sciml.layers.dense_stack import ACTIVATIONS, Activation, DenseStack
from sciml.layers.interpolation import resample
from sciml.layers.perceptron_branch import sensor_grid
from solvers.grid import Grid

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class ConvolutionBranch(nn.Module):
    """[b, in_channels, *space] -> [b, features] by convolutions, then a `DenseStack` of all values.

    One convolution of `kernel` points and `stride` for each entry of `channels`, each followed by
    the activation. A periodic axis is continued by kernel // 2 points on both sides; other sides
    get no points that the data do not have, so a kernel stays inside. Sensors and functions on
    other grids as in `PerceptronBranch`.
    """

    def __init__(
        self,
        in_channels: int,
        features: int,
        grid: Grid,
        *,
        channels: Sequence[int] = (16, 32),
        kernel: int = 5,
        stride: int = 2,
        widths: Sequence[int] = (128,),
        sensors: int | Sequence[int] | None = None,
        activation: Activation = "gelu",
    ):
        super().__init__()
        self.sensors = sensor_grid(grid, sensors)
        if kernel < 1 or stride < 1 or min(channels, default=0) < 1:
            raise ValueError(
                f"ConvolutionBranch: channels={list(channels)}, kernel={kernel} and "
                f"stride={stride} must be at least 1."
            )
        self.margins = tuple(kernel // 2 if axis.is_periodic else 0 for axis in grid.axes)
        self.activation = ACTIVATIONS[activation]()
        self.convolutions = nn.ModuleList()
        shape, before = self.sensors.shape, in_channels
        for after in channels:
            convolution = CONVOLUTIONS[grid.ndim](before, after, kernel, stride)
            self.convolutions.append(convolution)
            padded = [n + 2 * m for n, m in zip(shape, self.margins, strict=True)]
            if min(padded) < kernel:
                raise ValueError(
                    f"ConvolutionBranch: {len(channels)} convolutions with kernel={kernel} and "
                    f"stride={stride} do not fit {self.sensors.shape} sensors; number "
                    f"{len(self.convolutions)} would see {tuple(shape)}. Take fewer channels, a "
                    "smaller kernel or more sensors."
                )
            shape = tuple((n - kernel) // stride + 1 for n in padded)
            before = after
        self.layers = DenseStack((before * math.prod(shape), *widths, features), activation)

    def forward(self, a: Tensor, grid: Grid) -> Tensor:
        v = resample(a, grid, self.sensors)
        around = [m for margin in reversed(self.margins) for m in (margin, margin)]
        for convolution in self.convolutions:
            v = pad(v, around, mode="circular") if any(around) else v
            v = self.activation(convolution(v))
        return self.layers(v.flatten(1))
