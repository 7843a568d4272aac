"""A fully connected network from all numbers of a sample to all values of its fields."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.layers import DenseStack
from sciml.layers.dense_stack import Activation
from sciml.models.card import Card
from solvers.grid import Grid


class FullyConnected(nn.Module):
    """u = W_n s(W_(n-1) ... s(W_0 z + b_0) ...) + b_n, a `DenseStack` with `hidden` widths.

    z holds the values of the field channels at all points of `grid` and one number of each of the
    last `numbers` channels, which are constant in space: the parameters of a sample, and the time
    of a map without frames (`Windows` with history=0). u holds the values of all output channels at
    all points.

    Input [b, in_channels, *space], output [b, out_channels, *space], on `grid` alone: nothing in it
    knows where the points lie, no symmetry and no condition on the sides is built in, and the first
    layer grows with the points of the field channels, the last one with those of the output. As the
    surrogate of a plate given by a few numbers in Meyer et al. 2023 (arXiv:2306.16133); widths and
    activation are ours. Good start: hidden=(256, 256).
    """

    card = Card("Meyer et al. 2023, arXiv:2306.16133", any_resolution=False)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int,
        *,
        grid: Grid,
        numbers: int = 0,
        hidden: Sequence[int] = (256, 256),
        activation: Activation = "silu",
    ):
        super().__init__()
        if ndim != grid.ndim:
            raise ValueError(f"FullyConnected: ndim={ndim} must be that of the grid, {grid.ndim}.")
        if not 0 <= numbers <= in_channels:
            raise ValueError(
                f"FullyConnected: numbers={numbers} must be some of the {in_channels} channels."
            )
        self.in_channels, self.out_channels, self.grid = in_channels, out_channels, grid
        self.fields = in_channels - numbers
        points = math.prod(grid.shape)
        sizes = (self.fields * points + numbers, *hidden, out_channels * points)
        self.layers = DenseStack(sizes, activation)

    def forward(self, a: Tensor) -> Tensor:
        if a.ndim != self.grid.ndim + 2 or a.shape[1] != self.in_channels:
            raise ValueError(
                f"FullyConnected: expected [batch, {self.in_channels} channels, "
                f"{self.grid.ndim} axes], got {tuple(a.shape)}."
            )
        if tuple(a.shape[2:]) != self.grid.shape:
            raise ValueError(
                f"FullyConnected: made for the grid {self.grid.shape}, got {tuple(a.shape[2:])}; "
                "it has a weight for every point, train one on this grid."
            )
        numbers = a[:, self.fields :].flatten(2)[..., 0]
        z = torch.cat((a[:, : self.fields].flatten(1), numbers), dim=1)
        return self.layers(z).unflatten(1, (self.out_channels, *self.grid.shape))
