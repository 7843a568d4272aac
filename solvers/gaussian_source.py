"""A source at one place."""

from collections.abc import Sequence

import torch
from torch import Tensor

from solvers.grid import Grid


class GaussianSource:
    """f(x) = strength exp(-|x - center|^2 / (2 width^2)) on the points of a grid, [*space].

    `center` and `width` in units of length.
    """

    def __init__(self, center: Sequence[float], width: float, strength: float = 1.0):
        if not width > 0:
            raise ValueError(f"width={width} must be positive.")
        self.center, self.width, self.strength = tuple(center), width, strength

    def __call__(self, grid: Grid) -> Tensor:
        if len(self.center) != grid.ndim:
            raise ValueError(f"center={self.center} is no point of a grid of {grid.ndim} axes.")
        center = torch.tensor(self.center, dtype=torch.float64).view(-1, *[1] * grid.ndim)
        square = (grid.mesh() - center).square().sum(dim=0)
        return self.strength * torch.exp(-square / (2 * self.width**2))
