"""Weights of the mean of a field over its domain."""

import math

import torch
from torch import Tensor

from solvers.grid import Axis, Grid


def axis_weights(axis: Axis) -> Tensor:
    """w [size] with sum_j w[j] f(x[j]) = 1/L int f dx + O(h^2), and sum_j w[j] = 1.

    The midpoint rule on `cells`, the trapezoidal rule on `nodes` and on periodic axes; the last
    interval of a `left` axis that is not periodic, at whose end there is no point, counts to the
    last point.
    """
    weight = torch.ones(axis.size, dtype=torch.float64)
    if axis.points == "nodes":
        weight[0] = weight[-1] = 0.5
    elif axis.points == "left" and not axis.is_periodic:
        weight[0] -= 0.5
        weight[-1] += 0.5
    return weight / weight.sum()


def mean_weights(grid: Grid) -> Tensor:
    """The products of the weights of the axes, [*shape]; their sum is 1."""
    weights = torch.meshgrid(*(axis_weights(axis) for axis in grid.axes), indexing="ij")
    return math.prod(weights)
