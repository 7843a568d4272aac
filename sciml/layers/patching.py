"""Fields cut into overlapping patches, each with coarser views of what lies around it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from solvers.grid import Axis, Grid


class Patching:
    """Multi-grid domain decomposition [Kossaifi et al. 2023, arXiv:2310.00120] of one grid.

    2^levels patches per axis, each with p = round(padding n) more points on both sides of an axis
    of n points. `patch` gives every patch as one sample of levels + 1 groups of channels: group l
    has the same number of points, 2^l times as far apart, around the same centre, and so covers
    2^l times the length. These are values of the field at every 2^l-th point, not averages: what
    is finer than that is aliased. `stitch` puts what belongs to the patches together, so that
    stitch(crop(.)) of the finest group is x.

    Any number of points: patch i of an axis begins at point floor(i n / 2^levels), all have
    ceil(n / 2^levels) points, and where that is one too many the next patch gives the value.

    Points outside the domain lie on the other side of a periodic axis. Beyond a Neumann side the
    field is mirrored, once; beyond other sides and farther out the last value goes on, since the
    boundary values of an input field are not known here (a network tells such points by
    `positions`). A periodic axis with a single patch is not padded.

    Fields are [b, c, *space] and patches [patches b, c, *window], the patches in the order of the
    axes and those of one place together.
    """

    def __init__(self, grid: Grid, levels: int, padding: float):
        count = 2**levels
        if levels < 0 or not 0 <= padding < math.inf:
            raise ValueError(f"levels={levels} and padding={padding} must not be negative.")
        if min(grid.shape) < count:
            raise ValueError(
                f"levels={levels} needs at least {count} points per axis, the grid has "
                f"{grid.shape}; lower levels or raise the resolution."
            )
        self.grid, self.levels, self.count = grid, levels, count
        self.size = tuple(math.ceil(n / count) for n in grid.shape)
        self.padding = tuple(
            0 if count == 1 and axis.is_periodic else round(padding * axis.size)
            for axis in grid.axes
        )
        self.window = tuple(s + 2 * p for s, p in zip(self.size, self.padding, strict=True))
        self.patches = count**grid.ndim

    @property
    def compression(self) -> float:
        """Numbers in a field per number in one of its patches."""
        return math.prod(self.grid.shape) / (math.prod(self.window) * (self.levels + 1))

    @property
    def num_positions(self) -> int:
        """Channels of `positions`."""
        walls = sum(not axis.is_periodic for axis in self.grid.axes)
        return (self.levels + 1) * (walls + (walls > 0))

    def patch(self, x: Tensor) -> Tensor:
        """[b, c, *space] -> [patches b, (levels + 1) c, *window], the finest group first."""
        groups = []
        for level in range(self.levels + 1):
            group = x
            for dim, axis in enumerate(self.grid.axes):
                index = _inside(self._index(dim, level), axis).to(x.device)
                group = group.index_select(2 + 2 * dim, index.flatten())
                group = group.unflatten(2 + 2 * dim, index.shape)
            groups.append(group)
        stacked = torch.cat(groups, dim=1)  # [b, c, patches, window, patches, window, ...]
        ndim = self.grid.ndim
        counts, windows = range(2, 2 + 2 * ndim, 2), range(3, 3 + 2 * ndim, 2)
        return stacked.permute(*counts, 0, 1, *windows).flatten(0, ndim)

    def positions(self, like: Tensor) -> Tensor:
        """Where the points lie, [patches, num_positions, *window] in the order of `patch`.

        For each group the coordinate along every non-periodic axis, 0 and 1 on the sides of the
        domain and going on beyond them, and 1 for points inside the domain, 0 outside.
        """
        ndim, channels = self.grid.ndim, []
        for level in range(self.levels + 1):
            inside = torch.ones((), dtype=like.dtype, device=like.device)
            for dim, axis in enumerate(self.grid.axes):
                if axis.is_periodic:
                    continue
                index = self._index(dim, level).to(like.device)
                shape = [1] * (2 * ndim)
                shape[dim], shape[ndim + dim] = index.shape
                first = 0.5 if axis.points == "cells" else 0.0
                scaled = (index + first) * (axis.spacing / axis.length)
                channels.append(scaled.to(like.dtype).reshape(shape))
                domain = (index >= 0) & (index < axis.size)
                inside = inside * domain.to(like.dtype).reshape(shape)
            if inside.ndim:
                channels.append(inside)
        full = (*(self.count,) * ndim, *self.window)
        if not channels:
            return like.new_zeros(self.patches, 0, *self.window)
        stacked = torch.stack([channel.expand(full) for channel in channels], dim=ndim)
        return stacked.flatten(0, ndim - 1)

    def crop(self, y: Tensor) -> Tensor:
        """Patches without their padding, [patches b, c, *size]."""
        for dim, (p, s) in enumerate(zip(self.padding, self.size, strict=True)):
            y = y.narrow(2 + dim, p, s)
        return y

    def stitch(self, y: Tensor) -> Tensor:
        """The field [b, c, *space] of cropped patches [patches b, c, *size]."""
        ndim = self.grid.ndim
        y = y.reshape(*(self.count,) * ndim, -1, *y.shape[1:])
        pairs = [d for dim in range(ndim) for d in (dim, ndim + 2 + dim)]
        y = y.permute(ndim, ndim + 1, *pairs)
        for dim, (n, s) in enumerate(zip(self.grid.shape, self.size, strict=True)):
            starts = _starts(n, self.count)
            ends = [*starts[1:], n]
            owner = [
                i * s + j - start
                for i, (start, end) in enumerate(zip(starts, ends, strict=True))
                for j in range(start, end)
            ]
            index = torch.tensor(owner, device=y.device)
            y = y.flatten(2 + dim, 3 + dim).index_select(2 + dim, index)
        return y

    def _index(self, dim: int, level: int) -> Tensor:
        """Points of all patches along an axis, [patches, window], some outside of the domain."""
        step, size, padding = 2**level, self.size[dim], self.padding[dim]
        shift = -step * math.ceil((size - size / step) / 2)  # centres the longer window
        start = torch.tensor(_starts(self.grid.shape[dim], self.count))
        offset = step * torch.arange(-padding, size + padding) + shift
        return start[:, None] + offset


def _starts(n: int, count: int) -> Sequence[int]:
    return [i * n // count for i in range(count)]


def _inside(index: Tensor, axis: Axis) -> Tensor:
    """The points of the domain whose values stand for those at `index`."""
    n = axis.size
    if axis.is_periodic:
        return index % n
    lower, upper = (side == "neumann" for side in axis.boundary)
    if lower:
        mirror = -1 if axis.points == "cells" else 0
        index = torch.where(index < 0, mirror - index, index)
    if upper:
        mirror = {"cells": 2 * n - 1, "left": 2 * n, "nodes": 2 * n - 2}[axis.points]
        index = torch.where(index >= n, mirror - index, index)
    return index.clamp(0, n - 1)
