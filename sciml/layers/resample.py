"""Fields from one uniform grid to another of the same domain, by their Fourier or cosine series."""

import math

import torch
from torch import Tensor

from solvers.grid import Axis, Grid


class Resample:
    """The interpolating series of a field on the points of `source`, summed on those of `target`.

        periodic axis      sum_k c[k] exp(2 pi i k x / L)
        any other axis     sum_k c[k] cos(pi k x / L)      even about both sides

    Waves that the coarser of the two grids does not hold are left out: nothing is aliased, and a
    field without such waves is reproduced exactly on any pair of sizes, odd or even, at the
    physical positions of the points, which are not a subset of each other on `cells`. At the
    Nyquist frequency of `source` both signs count half, so that the series is real. On `left`
    points of an axis that is not periodic the field is taken as shifted by half a cell.

    Where a field meets a wall with a slope, its cosine series makes an error of order h, over the
    whole grid of order h^1.5 in the mean square: good for hidden fields, not for solutions.

    Fields have the points first, [*source, *rest] to [*target, *rest]. One dense product
    per axis whose size changes, O(n m) per line.
    """

    def __init__(self, source: Grid, target: Grid, like: Tensor):
        self.shape = target.shape
        self.matrices = [
            None if a.size == b.size else interpolation(a, b).to(like.device, like.dtype)
            for a, b in zip(source.axes, target.axes, strict=True)
        ]

    def __call__(self, x: Tensor) -> Tensor:
        rest = x.shape[len(self.shape) :]
        done = 1
        for matrix, size in zip(self.matrices, self.shape, strict=True):
            if matrix is not None:
                x = torch.matmul(matrix, x.reshape(done, matrix.shape[1], -1))
            done *= size
        return x.reshape(*self.shape, *rest)


def interpolation(source: Axis, target: Axis) -> Tensor:
    """From the points of one axis to those of the other, [target.size, source.size], in double
    precision.
    """
    here, there = _positions(source), _positions(target)
    n, weight = source.size, torch.ones(source.size, dtype=torch.float64)
    if source.is_periodic:
        k = torch.arange(min(n, target.size) // 2 + 1, dtype=torch.float64)
        multiplicity = torch.where((k == 0) | (2 * k == n), 1.0, 2.0)
        turn, samples, waves = 2 * math.pi, n, (torch.cos, torch.sin)
    else:
        k = torch.arange(min(n, target.size), dtype=torch.float64)
        multiplicity = torch.where(k == 0, 1.0, 2.0)
        turn, samples, waves = math.pi, n, (torch.cos,)
        if source.points == "nodes":  # trapezoidal rule; the last wave of all is its own alias
            samples = n - 1
            weight[0] = weight[-1] = 0.5
            multiplicity = torch.where(k == n - 1, 1.0, multiplicity)
    multiplicity = multiplicity[:, None]
    return sum(
        wave(turn * torch.outer(there, k)) @ (multiplicity * wave(turn * torch.outer(k, here)))
        for wave in waves
    ) * (weight / samples)


def _positions(axis: Axis) -> Tensor:
    """Of the points, in lengths of the axis from its lower end."""
    index = torch.arange(axis.size, dtype=torch.float64)
    if axis.points == "nodes":
        return index / (axis.size - 1)
    shifted = axis.points == "cells" or not axis.is_periodic
    return (index + 0.5 * shifted) / axis.size
