"""Which points of a grid are neighbours, as a fixed index."""

import itertools
import math

import torch
from torch import Tensor

from solvers.grid import Grid


class Neighbours:
    """The points j within `radius` grid spacings of each point i, i itself left out.

    `index` [points, k] numbers them in the order of `Tensor.flatten`; `offset` [k, ndim] is
    x_j - x_i in lengths of the domain, the same for all points; `share` [points, k] is one over
    the number of neighbours of i, and 0 where a neighbour would lie beyond a wall. Periodic axes
    wrap around.
    """

    def __init__(self, grid: Grid, radius: float):
        reach = math.floor(radius) if math.isfinite(radius) else 0
        small = [a.name for a in grid.axes if a.is_periodic and a.size < 2 * reach + 1]
        if reach < 1 or small:
            raise ValueError(
                f"radius={radius} must be at least 1, and a periodic axis needs at least "
                f"{2 * reach + 1} points to meet no neighbour twice; the grid has {grid.shape}."
            )
        steps = [
            step
            for step in itertools.product(range(-reach, reach + 1), repeat=grid.ndim)
            if 0 < math.hypot(*step) <= radius
        ]
        lengths = torch.tensor([a.spacing / a.length for a in grid.axes], dtype=torch.float64)
        self.offset = torch.tensor(steps, dtype=torch.float64) * lengths
        places = torch.meshgrid(*(torch.arange(n) for n in grid.shape), indexing="ij")
        self.index = torch.zeros(math.prod(grid.shape), len(steps), dtype=torch.long)
        present = torch.ones(self.index.shape, dtype=torch.bool)
        for axis, place, move in zip(grid.axes, places, zip(*steps, strict=True), strict=True):
            moved = place.reshape(-1, 1) + torch.tensor(move)
            if not axis.is_periodic:
                present &= (moved >= 0) & (moved < axis.size)
            self.index = self.index * axis.size + moved.remainder(axis.size)
        self.share = present.double() / present.sum(dim=1, keepdim=True).clamp_min(1)

    def to(self, like: Tensor) -> "Neighbours":
        """In the precision and on the device of `like`."""
        self.index = self.index.to(like.device)
        self.offset, self.share = self.offset.to(like), self.share.to(like)
        return self
