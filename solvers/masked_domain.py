"""Cells of a box that are fluid, hold a value or are solid, and the flux balance over them."""

import math
from collections.abc import Sequence
from enum import IntEnum

import torch
from torch import Tensor

from solvers.components import FloatingParts, label
from solvers.grid import Grid


class Cell(IntEnum):
    """What a cell of a masked domain is."""

    FLUID = 0
    DIRICHLET = 1
    SOLID = 2


class MaskedDomain:
    """The domain of the fluid cells among `cells`, [b, *space] or [b, 1, *space], whole numbers of
    any dtype that hold a `Cell` each.

    A side of the box is a layer of ghost cells: held ones half a cell away from a centre on a
    Dirichlet side, solid ones on a Neumann side, the layer at the other end on a periodic axis. The
    balance of fluid cell i is then

        sum over fluid neighbours    t (u_i - u_j)
        + sum over Dirichlet ones    t (u_i - g_j)   =   f_i volume + sum over solid ones  area q_j

    with t = area over the resistances h / (2 a) of the two half cells between the centres. Rows of
    other cells are empty. Fields [b, *space]; everything is differentiable in them.
    """

    def __init__(self, grid: Grid, cells: Tensor):
        if cells.dim() == grid.ndim + 2 and cells.shape[1] == 1:
            cells = cells[:, 0]
        if cells.dim() != grid.ndim + 1 or tuple(cells.shape[1:]) != grid.shape:
            raise ValueError(
                f"cells must have shape [b, {', '.join(map(str, grid.shape))}], with or without "
                f"an axis for the channel, got {tuple(cells.shape)}."
            )
        if cells.is_complex() or (cells.is_floating_point() and (cells != cells.round()).any()):
            raise ValueError(f"cells must be whole numbers (see Cell), got {cells.dtype}.")
        kinds = [int(kind) for kind in Cell]
        if ((cells < kinds[0]) | (cells > kinds[-1])).any():
            found = f"{int(cells.min())} to {int(cells.max())}"
            raise ValueError(f"cells must hold {kinds} (see Cell), got values from {found}.")
        self.grid, self.cells = grid, cells.to(torch.int8)
        self.fluid, self.dirichlet, self.solid = (self.cells == kind for kind in Cell)
        self.volume = math.prod(grid.spacing)
        self._sides = [self._kinds_of_sides(k) for k in range(grid.ndim)]

    def conductances(self, a: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Faces between fluid cells and grounds as `Multigrid` takes them: the conductances of a
        fluid cell to Dirichlet neighbours on its lower x, upper x, lower y .. side.
        """
        half = 0.5 / a
        faces, grounds = [], []
        for k, (axis, h) in enumerate(zip(self.grid.axes, self.grid.spacing, strict=True)):
            n = axis.size
            halves = self._with_ghosts(half, k)
            t = (
                self.volume
                / h**2
                / (halves.narrow(k + 1, 0, n + 1) + halves.narrow(k + 1, 1, n + 1))
            )
            below, above = self._sides[k]
            link = (below == Cell.FLUID) & (above == Cell.FLUID)
            # Of a periodic axis the last face is the first.
            faces.append(torch.where(link, t, 0.0).narrow(k + 1, 0, n + (not axis.is_periodic)))
            lower = (below == Cell.DIRICHLET) & (above == Cell.FLUID)
            upper = (below == Cell.FLUID) & (above == Cell.DIRICHLET)
            grounds.append(torch.where(lower, t, 0.0).narrow(k + 1, 0, n))
            grounds.append(torch.where(upper, t, 0.0).narrow(k + 1, 1, n))
        return faces, grounds

    def right_side(
        self, grounds: Sequence[Tensor], f: Tensor, values: Tensor, walls: Sequence[Tensor]
    ) -> Tensor:
        """f volume + sum t g + sum area q. `values` is g in Dirichlet cells and q in solid ones,
        `walls` the same on the sides of the box, [b, *face] for lower x, upper x, lower y ..
        """
        b = torch.where(self.fluid, f * self.volume, 0.0)
        for k, h in enumerate(self.grid.spacing):
            n, area = self.grid.shape[k], self.volume / h
            padded = self._with_ghosts(values, k, walls[2 * k : 2 * k + 2])
            below, above = self._sides[k]
            lower = (below == Cell.SOLID).narrow(k + 1, 0, n) & self.fluid
            upper = (above == Cell.SOLID).narrow(k + 1, 1, n) & self.fluid
            lower, upper = area * lower.to(b.dtype), area * upper.to(b.dtype)
            b = b + (grounds[2 * k] + lower) * padded.narrow(k + 1, 0, n)
            b = b + (grounds[2 * k + 1] + upper) * padded.narrow(k + 1, 2, n)
        return b

    def floating_parts(self, grounds: Sequence[Tensor]) -> FloatingParts:
        """The connected parts of the fluid that no Dirichlet value touches."""
        held = torch.stack([t > 0 for t in grounds]).any(dim=0)
        return FloatingParts(self.fluid, held, [axis.is_periodic for axis in self.grid.axes])

    def _kinds_of_sides(self, k: int) -> tuple[Tensor, Tensor]:
        """Kinds of the cells below and above every face normal to axis k."""
        kinds = {"dirichlet": Cell.DIRICHLET, "neumann": Cell.SOLID, "periodic": Cell.FLUID}
        layer = torch.ones_like(self.cells.select(k + 1, 0))
        walls = [layer * kinds[side] for side in self.grid.boundary[k]]
        padded, n = self._with_ghosts(self.cells, k, walls), self.grid.shape[k]
        return padded.narrow(k + 1, 0, n + 1), padded.narrow(k + 1, 1, n + 1)

    def _with_ghosts(self, field: Tensor, k: int, walls: Sequence[Tensor] = ()) -> Tensor:
        """A field with one layer more on both ends of axis k: that of the other end if it is
        periodic, else `walls`, or zeros.
        """
        first, last = field.narrow(k + 1, 0, 1), field.narrow(k + 1, field.shape[k + 1] - 1, 1)
        if self.grid.axes[k].is_periodic:
            return torch.cat([last, field, first], dim=k + 1)
        lower, upper = (
            [w.unsqueeze(k + 1) for w in walls] if walls else 2 * [torch.zeros_like(first)]
        )
        return torch.cat([lower, field, upper], dim=k + 1)


class Inclusions:
    """A plate with holes: solid cells where psi >= `solid`, cells that hold a value where
    psi <= `held`, fluid ones elsewhere, as the numbers of `Cell` in the dtype of psi.

    psi is [b, *space]. Parts of the plate that solid cells enclose, away from the sides of the box
    and from every cell that holds a value, become solid too: with a source they have no solution.
    """

    def __init__(self, solid: float = 1.0, held: float = -1.0):
        if not held < solid:
            raise ValueError(f"held={held} must be below solid={solid}.")
        self.solid, self.held = solid, held

    def __call__(self, psi: Tensor) -> Tensor:
        cells = torch.full_like(psi, float(Cell.FLUID))
        cells = cells.masked_fill(psi >= self.solid, float(Cell.SOLID))
        cells = cells.masked_fill(psi <= self.held, float(Cell.DIRICHLET))
        parts = label(cells != Cell.SOLID, [False] * (psi.dim() - 1))
        anchored = cells == Cell.DIRICHLET
        for dim in range(1, psi.dim()):
            ends = torch.arange(psi.shape[dim], device=psi.device)
            ends = (ends == 0) | (ends == psi.shape[dim] - 1)
            anchored = anchored | ends.view(-1, *[1] * (psi.dim() - 1 - dim))
        keeps = torch.isin(parts, parts[anchored & (parts > 0)])
        return cells.masked_fill(~keeps, float(Cell.SOLID))
