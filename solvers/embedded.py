"""Poisson's equation on a domain of any shape inside a Cartesian box."""

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

from solvers.grid import Grid
from solvers.implicit import LinearSystem
from solvers.krylov import Info, conjugate_gradients
from solvers.masked_domain import MaskedDomain
from solvers.multigrid import Multigrid
from solvers.stencil import Stencil
from solvers.walls import Boundary, Value, expand, require, wall_values


class EmbeddedPoisson:
    """Poisson's equation on the fluid cells of a box, in 1 to 3 dimensions.

        -div(a grad u) = f  in fluid,    u = g  in Dirichlet cells,    a du/dn = q  at solid cells

    Finite volumes on cell centres with harmonic means of a on the faces. For a = 1 and cells of
    side 1 the row of a fluid cell has the number of its neighbours that are not solid on the
    diagonal and -1 for each fluid neighbour. `cells` [b, *space] holds 0 in fluid, 1 in Dirichlet
    and 2 in solid cells (`Cell`), a shape per sample. The other data of a call are numbers or
    broadcast to [b, 1, *space]:

        a           positive in fluid and Dirichlet cells
        f           in fluid cells
        g           u at the centres of Dirichlet cells
        flux        q of solid cells, through each face to a fluid one; n points out of the fluid
        boundary    u on a Dirichlet side of the box, q on a Neumann side, as in `wall_values`

    What they hold in other cells has no effect. Dirichlet values sit at the centres of Dirichlet
    cells, half a cell away from a centre on the sides of the box; fluxes sit on faces. u is
    second-order accurate in the spacing if the boundary lies there, or g continues u to those
    centres. A curved boundary becomes a staircase: first order with its values in the Dirichlet
    cells beside it, and no convergence where a flux other than zero crosses the steps, which are
    longer than the curve. There are no cut cells.

    Where no Dirichlet value touches a connected part of the fluid, f and q must balance over it to
    the square root of the rounding of their dtype, else a ValueError says by how much they do not;
    u has mean zero over it. u is g in Dirichlet cells and 0 in solid ones. Solved in float64 by
    conjugate gradients with a `Multigrid` cycle; u has the widest dtype among the tensors given.
    Derivatives of any order in a, f, g, flux and boundary come from adjoint solves to the same
    tolerance; over a part without Dirichlet values they are those along data that balance. Samples
    of a batch do not influence each other, and all are solved together. Walls one or two cells thin
    cost iterations, the more the finer the grid.

    The matrix is that of Lan et al., A neural-preconditioned Poisson solver for mixed Dirichlet
    and Neumann boundary conditions, ICML 2024.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        source: Value = 1.0,
        boundary: Boundary = 0.0,
        tolerance: float = 1e-8,
        max_iterations: int = 1000,
    ):
        if any(axis.points != "cells" for axis in grid.axes):
            points = tuple(axis.points for axis in grid.axes)
            raise ValueError(f"EmbeddedPoisson needs points='cells' on every axis, got {points}.")
        if any("open" in sides for sides in grid.boundary):
            raise ValueError(
                "EmbeddedPoisson needs sides that are periodic, dirichlet or neumann, "
                f"got {grid.boundary}."
            )
        self.grid, self.source, self.boundary = grid, source, boundary
        self.tolerance, self.max_iterations = tolerance, max_iterations

    def __call__(
        self, cells: Tensor, a: Value = 1.0, f: Value | None = None, g: Value = 0.0
    ) -> Tensor:
        return self.solve(cells, a, f, g)[0]

    def solve(
        self,
        cells: Tensor,
        a: Value = 1.0,
        f: Value | None = None,
        g: Value = 0.0,
        *,
        flux: Value = 0.0,
        boundary: Boundary | None = None,
    ) -> tuple[Tensor, Info]:
        """u [b, 1, *space], and the iterations and true residual of every sample.

        f and boundary, if given, replace those of the constructor. Raises `NotConverged`, and
        ValueError when data are misshapen, not finite, not positive (a) or do not balance.
        """
        domain = MaskedDomain(self.grid, cells)
        f, boundary = self._or_own(f, boundary)
        dtype = _widest([a, f, g, flux, boundary])
        a, f, values, *walls = _fields(domain, a, f, g, flux, boundary, torch.float64)
        require("a", a, (a > 0) & a.isfinite(), "positive and finite outside solid cells")
        for name, field in (("f", f), ("g or flux", values), *(("boundary", w) for w in walls)):
            require(name, field, field.isfinite(), "finite")

        faces, grounds = domain.conductances(a)
        ground = sum(grounds)
        b = domain.right_side(grounds, f, values, walls)
        parts = domain.floating_parts(grounds)
        with torch.no_grad():
            size = domain.right_side(grounds, f.abs(), values.abs(), [w.abs() for w in walls])
            parts.require_balance(b, size, torch.finfo(dtype).eps ** 0.5)
        iterate = functools.partial(
            conjugate_gradients,
            Stencil([t.detach() for t in faces], ground.detach()),
            M=Multigrid(faces, self.grid.spacing, grounds),
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
            patience=self.max_iterations,  # labyrinths go long without a lower residual
            project=parts,
        )

        def solve_adjoint(b: Tensor, *_: Tensor) -> Tensor:
            u, info = iterate(b)
            info.require(f"This was the adjoint solve of a gradient. {_ADVICE}")
            return u

        u, info = iterate(b)
        info.require(_ADVICE)
        u = LinearSystem(_balance, solve_adjoint).attach(u, b, *faces, ground)
        u = torch.where(domain.fluid, u, torch.where(domain.dirichlet, values, 0.0))
        return u.unsqueeze(1).to(dtype), info

    def residual(
        self,
        cells: Tensor,
        u: Tensor,
        a: Value = 1.0,
        f: Value | None = None,
        g: Value = 0.0,
        *,
        flux: Value = 0.0,
        boundary: Boundary | None = None,
    ) -> Tensor:
        """-div(a grad u) - f of the same discretisation in fluid cells, u - g in Dirichlet cells
        and u in solid ones, [b, 1, *space], for physics losses.

        Differentiable any number of times, in the widest dtype of u and the data. The mean of u on
        a part without Dirichlet values is left open. Values are not checked.
        """
        domain = MaskedDomain(self.grid, cells)
        f, boundary = self._or_own(f, boundary)
        dtype = _widest([u, a, f, g, flux, boundary])
        if u.shape != (len(cells), 1, *self.grid.shape):
            expected = ", ".join(map(str, (len(cells), 1, *self.grid.shape)))
            raise ValueError(f"u must have shape [{expected}], got {tuple(u.shape)}.")
        u = u[:, 0].to(dtype)
        a, f, values, *walls = _fields(domain, a, f, g, flux, boundary, dtype)
        faces, grounds = domain.conductances(a)
        balance = Stencil(faces, sum(grounds))(u) - domain.right_side(grounds, f, values, walls)
        other = torch.where(domain.dirichlet, u - values, u)
        return torch.where(domain.fluid, balance / domain.volume, other).unsqueeze(1)

    def _or_own(self, f: Value | None, boundary: Boundary | None) -> tuple[Value, Boundary]:
        return (
            self.source if f is None else f,
            self.boundary if boundary is None else boundary,
        )


def _balance(u: Tensor, *transmissibilities: Tensor) -> Tensor:
    *faces, ground = transmissibilities
    return Stencil(faces, ground)(u)


_ADVICE = (
    "Raise max_iterations if the limit was hit; loosen the tolerance if it stagnated, as it does "
    "near rounding error on fine grids; many thin walls or a high contrast of a slow convergence."
)


def _fields(
    domain: MaskedDomain,
    a: Value,
    f: Value,
    g: Value,
    flux: Value,
    boundary: Boundary,
    dtype: torch.dtype,
) -> list[Tensor]:
    """a, f, g and flux in one field, and the walls; blank where they have no effect."""
    like = torch.empty(0, dtype=dtype, device=domain.cells.device)
    b, named = len(domain.cells), {"a": a, "f": f, "g": g, "flux": flux}
    shape = (b, 1, *domain.grid.shape)
    a, f, g, flux = (expand(name, v, shape, like)[:, 0] for name, v in named.items())
    return [
        torch.where(domain.solid, 1.0, a),
        torch.where(domain.fluid, f, 0.0),
        torch.where(domain.dirichlet, g, torch.where(domain.solid, flux, 0.0)),
        *wall_values(boundary, domain.grid, b, like),
    ]


def _widest(values: object) -> torch.dtype:
    """Of the floating-point tensors in nested lists; the default dtype if there are none."""
    found = {tensor.dtype for tensor in _tensors(values)}
    return functools.reduce(torch.promote_types, found) if found else torch.get_default_dtype()


def _tensors(values: object) -> Iterator[Tensor]:
    """Floating-point tensors in nested lists."""
    if isinstance(values, Tensor) and values.is_floating_point():
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
