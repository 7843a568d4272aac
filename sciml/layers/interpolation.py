"""Multilinear interpolation of fields on uniform grids."""

from itertools import product

from torch import Tensor

from solvers.grid import Axis, Grid


def resample(u: Tensor, grid: Grid, target: Grid) -> Tensor:
    """u [..., *grid.shape] at the points of another grid of the same domain: [..., *target.shape].

    Linear along one axis after another, so fields that are linear in each coordinate are kept
    exactly, and others up to O(h^2). A periodic axis goes on at its other end; beyond the first
    and the last point of another axis, which of `cells` is half a spacing, the line through the
    two outermost points is drawn out. Nothing is averaged: what is finer than the target's points
    is read where they lie. An axis with the same points is left alone, bit by bit.
    """
    for dim, (axis, wanted) in enumerate(zip(grid.axes, target.axes, strict=True), -grid.ndim):
        if axis == wanted:
            continue
        low, high, weight = _neighbours(axis, wanted.coordinates().to(u.device))
        weight = weight.to(u.dtype).view(-1, *[1] * (-dim - 1))
        u = u.index_select(dim, low) * (1 - weight) + u.index_select(dim, high) * weight
    return u


def interpolate(u: Tensor, grid: Grid, points: Tensor) -> Tensor:
    """u [c, *grid.shape] at points [..., ndim] in the grid's coordinates: [..., c].

    The rule of `resample`, with a gradient for u and for the points.
    """
    u = u.flatten(1).transpose(0, 1)  # [*space, c]
    found = [_neighbours(axis, points[..., i]) for i, axis in enumerate(grid.axes)]
    value = u.new_zeros(())
    for corner in product((0, 1), repeat=grid.ndim):
        index, weight = 0, 1
        for size, upper, (*ends, fraction) in zip(grid.shape, corner, found, strict=True):
            index = index * size + ends[upper]
            weight = weight * (fraction if upper else 1 - fraction)
        value = value + u[index] * weight[..., None]
    return value


def _neighbours(axis: Axis, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The points of the axis to the left and right of x, and the weight of the right one."""
    first = axis.lower + (axis.spacing / 2 if axis.points == "cells" else 0.0)
    place = (x - first) / axis.spacing
    low = place.detach().floor().long()
    if not axis.is_periodic:
        low = low.clamp(0, max(axis.size - 2, 0))
    weight = place - low
    if axis.is_periodic:
        return low % axis.size, (low + 1) % axis.size, weight
    return low, (low + 1).clamp(max=axis.size - 1), weight
