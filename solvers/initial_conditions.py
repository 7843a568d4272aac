"""Random initial states that are functions of space: the same draw on every grid."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from solvers.grid import Grid


class InitialCondition(Protocol):
    """One state per generator, [b, *space] or [b, c, *space] in float64."""

    def sample(self, generators: Sequence[torch.Generator], grid: Grid) -> Tensor: ...


class TruncatedFourier:
    """u(x) = sum over wave vectors |m_i| <= `modes` of a_m cos(2 pi m.z) + b_m sin(2 pi m.z).

    z are coordinates in units of the lengths of a periodic box; a and b are independent standard
    normals. `zero_mean` leaves m = 0 out. `max_one` divides by the largest |u|, found on 16 modes +
    1 points per axis, to 2 %, whatever the grid. In the manner of APEBench's `fourier;5;true;true`
    [Koehler et al. 2024, arXiv:2411.00180, appendix], which draws amplitudes uniformly.
    """

    def __init__(self, modes: int = 5, *, zero_mean: bool = True, max_one: bool = True):
        if modes < 1:
            raise ValueError(f"modes={modes} must be at least 1.")
        self.modes, self.zero_mean, self.max_one = modes, zero_mean, max_one

    def sample(self, generators: Sequence[torch.Generator], grid: Grid) -> Tensor:
        shape = (2 * self.modes + 1,) * grid.ndim
        normals = torch.stack(
            [torch.randn(*shape, generator=g, dtype=torch.float64) for g in generators]
        )
        if self.zero_mean:
            normals[(slice(None), *(0,) * grid.ndim)] = 0
        u = self._evaluate(normals, grid)
        if self.max_one:
            fine = grid.resized((16 * self.modes + 1,) * grid.ndim)
            largest = self._evaluate(normals, fine).abs().flatten(1).amax(dim=1)
            u = u / largest.view(-1, *[1] * grid.ndim)
        return u

    def _evaluate(self, coefficients: Tensor, grid: Grid) -> Tensor:
        """Products of 1, cos and sin of each axis span the plane waves with independent weights."""
        for axis in grid.axes:
            z = (axis.coordinates() - axis.lower) / axis.length
            angle = 2 * math.pi * torch.outer(z, torch.arange(1, self.modes + 1).double())
            basis = torch.cat((torch.ones_like(z)[:, None], angle.cos(), angle.sin()), dim=1)
            coefficients = torch.tensordot(coefficients, basis, dims=([1], [1]))
        return coefficients


class RandomSines:
    """u(x) = sum_i A_i sin(2 pi n_i x / length + phase_i) of `count` waves in one dimension.

    n_i is drawn from 1 .. `modes`, A_i from [0, 1] and the phase from [0, 2 pi]. One time in ten
    the absolute value is taken with a random sign, and one time in ten the waves are seen through
    a smooth window. Takamoto et al. 2022, PDEBench (arXiv:2210.07182), equation 8, with these
    amplitudes; the window is ours, between two random points and 0.01 lengths soft.
    """

    def __init__(self, count: int = 2, modes: int = 8):
        if count < 1 or modes < 1:
            raise ValueError(f"count={count} and modes={modes} must be at least 1.")
        self.count, self.modes = count, modes

    def sample(self, generators: Sequence[torch.Generator], grid: Grid) -> Tensor:
        if grid.ndim != 1:
            raise ValueError(f"RandomSines is one-dimensional, the grid has {grid.ndim} axes.")
        [axis] = grid.axes
        z = (axis.coordinates() - axis.lower) / axis.length
        fields = []
        for g in generators:
            amplitude, phase = torch.rand(2, self.count, 1, generator=g, dtype=torch.float64)
            wave = torch.randint(1, self.modes + 1, (self.count, 1), generator=g)
            u = (amplitude * torch.sin(2 * math.pi * (wave * z + phase))).sum(dim=0)
            chance = torch.rand(5, generator=g, dtype=torch.float64)
            if chance[0] < 0.1:
                u = u.abs() * (1 if chance[1] < 0.5 else -1)
            if chance[2] < 0.1:
                lower, upper = 0.1 + 0.35 * chance[3], 0.55 + 0.35 * chance[4]
                u = u * 0.5 * (torch.tanh((z - lower) / 0.01) - torch.tanh((z - upper) / 0.01))
            fields.append(u)
        return torch.stack(fields)


class Blobs:
    """`inside` within Gaussian blobs and `outside` elsewhere, for each of c fields, on a box in 1
    to 3 dimensions:

        u_k(x) = outside_k + (inside_k - outside_k) min(1, sum_i exp(-|x - x_i|^2 / (2 w_i^2)))

    The number of blobs is drawn from 1 .. `count`, their centres uniformly, their widths w
    from `width` in units of the first length. A blob that passes a periodic side comes back in on
    the other one; other sides cut it off.
    """

    def __init__(
        self,
        inside: Sequence[float],
        outside: Sequence[float],
        *,
        count: int = 4,
        width: tuple[float, float] = (0.03, 0.08),
    ):
        if len(inside) != len(outside) or count < 1 or not 0 < width[0] <= width[1]:
            raise ValueError(
                f"inside={inside} and outside={outside} need a value per field, count={count} "
                f"must be at least 1 and width={width} rise from above 0."
            )
        self.inside, self.outside = tuple(inside), tuple(outside)
        self.count, self.width = count, tuple(width)

    def sample(self, generators: Sequence[torch.Generator], grid: Grid) -> Tensor:
        x, shares = grid.mesh(), []
        shape = (-1, *[1] * grid.ndim)
        lengths = torch.tensor([a.length for a in grid.axes], dtype=torch.float64)
        lower = torch.tensor([a.lower for a in grid.axes], dtype=torch.float64)
        periodic = torch.tensor([a.is_periodic for a in grid.axes])
        period = torch.where(periodic, lengths, math.inf)
        for g in generators:
            number = int(torch.randint(1, self.count + 1, (1,), generator=g))
            draws = torch.rand(self.count, grid.ndim + 1, generator=g, dtype=torch.float64)
            share = torch.zeros(grid.shape, dtype=torch.float64)
            for row in draws[:number]:
                distance = (x - (lower + lengths * row[:-1]).view(shape)).abs()
                distance = torch.minimum(distance, (period.view(shape) - distance).abs())
                width = self.width[0] + (self.width[1] - self.width[0]) * float(row[-1])
                square = distance.square().sum(dim=0)
                share = share + torch.exp(-square / (2 * (width * float(lengths[0])) ** 2))
            shares.append(share.clamp(max=1))
        share = torch.stack(shares).unsqueeze(1)
        inside, outside = (
            torch.tensor(v, dtype=torch.float64).view(shape) for v in (self.inside, self.outside)
        )
        return outside + (inside - outside) * share


class CellNoise:
    """Independent standard normals in the cells of a grid with `size` cells per axis, `channels`
    fields of them: averaged onto coarser grids whose cells are unions of these, constant in each
    of these on finer grids that divide them.

    Noise per cell depends on the mesh. Here it is drawn on one mesh, so that other grids see the
    same state.
    """

    def __init__(self, size: int, channels: int = 1):
        if size < 1 or channels < 1:
            raise ValueError(f"size={size} and channels={channels} must be at least 1.")
        self.size, self.channels = size, channels

    def sample(self, generators: Sequence[torch.Generator], grid: Grid) -> Tensor:
        if any(self.size % n and n % self.size for n in grid.shape):
            raise ValueError(
                f"noise on {self.size} cells per axis has averages on grids that divide it, and "
                f"values on its multiples, not on {grid.shape}; choose another resolution or size."
            )
        shape = (self.channels, *[self.size] * grid.ndim)
        u = torch.stack([torch.randn(*shape, generator=g, dtype=torch.float64) for g in generators])
        for dim, n in enumerate(grid.shape, start=2):
            if n < self.size:
                u = u.unflatten(dim, (n, self.size // n)).mean(dim=dim + 1)
            else:
                u = u.repeat_interleave(n // self.size, dim=dim)
        return u


class DamBreak:
    """Water of depth `inside` in a circle (in 1-D an interval) about the origin and `outside`
    around it, at rest: depth and discharge [b, 1 + ndim, *space].

    The radius is drawn from `radius`, in units of length. Depths are means over 8 points per axis
    of a cell, so the same circle is seen on every grid. PDEBench (arXiv:2210.07182), D.5.
    """

    def __init__(
        self,
        radius: tuple[float, float] = (0.3, 0.7),
        *,
        inside: float = 2.0,
        outside: float = 1.0,
    ):
        if not 0 < radius[0] <= radius[1] or min(inside, outside) <= 0:
            raise ValueError(
                f"radius={radius} must rise from above 0, inside={inside} and outside={outside} "
                "must be positive."
            )
        self.radius, self.inside, self.outside = tuple(radius), inside, outside

    def sample(self, generators: Sequence[torch.Generator], grid: Grid) -> Tensor:
        fine = grid.resized([8 * n for n in grid.shape])
        square, states = fine.mesh().square().sum(dim=0), []
        for g in generators:
            chance = float(torch.rand(1, generator=g, dtype=torch.float64))
            radius = self.radius[0] + (self.radius[1] - self.radius[0]) * chance
            share = (square <= radius**2).double()
            for dim, n in enumerate(grid.shape):
                share = share.unflatten(dim, (n, 8)).mean(dim=dim + 1)
            depth = self.outside + (self.inside - self.outside) * share
            states.append(torch.stack((depth, *[torch.zeros_like(depth)] * grid.ndim)))
        return torch.stack(states)
