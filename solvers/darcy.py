"""Steady Darcy flow: from the permeability to the pressure."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from solvers.grid import Grid
from solvers.implicit import LinearSystem
from solvers.krylov import Info, conjugate_gradients
from solvers.multigrid import Multigrid
from solvers.stencil import Stencil, transmissibilities
from solvers.walls import Boundary, Value, expand, require, wall_values


class Darcy:
    """Pressure of a steady flow through a porous box, in 1 to 3 dimensions.

        -div(a grad u) = f  inside,    u = g  on the walls

    Finite volumes on cell centres. The flux through a face is the difference of u over the
    resistance between the two centres, which is the harmonic mean of a and exact where a jumps
    on a face. Walls are half a cell away from a centre. Second order in the spacing where a is
    smooth. Always solved in float64, by conjugate gradients with a multigrid V-cycle in float32;
    u has the dtype of a.

    `solver(a)` is the steady map [b, 1, *space] -> [b, 1, *space]. Gradients in a, f and g come
    from one adjoint solve to the same tolerance, so that memory does not grow with iterations;
    higher derivatives take more such solves. Samples of a batch do not influence each other.

        source      f: a number or a tensor that broadcasts to [b, 1, *space]
        boundary    g: a number, or a pair (lower wall, upper wall) per axis, each a number or a
                    tensor that broadcasts to [b, *face], face being the shape less that axis
        tolerance   bounds ||b - A u|| / ||b||, where b is f and the wall values together.
                    Rounding keeps it above about 1e-17 / spacing^2 on the unit box
        chunk       samples solved together, by default as many as have 2**18 cells

    Units: f is in units of a times u over length squared, lengths are those of the grid.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        source: Value = 1.0,
        boundary: Boundary = 0.0,
        tolerance: float = 1e-8,
        max_iterations: int = 300,
        chunk: int | None = None,
    ):
        if any(axis.points != "cells" for axis in grid.axes):
            points = tuple(axis.points for axis in grid.axes)
            raise ValueError(f"Darcy needs a grid with points='cells' on every axis, got {points}.")
        if any(side != "dirichlet" for sides in grid.boundary for side in sides):
            raise ValueError(
                f"Darcy needs a grid with boundary='dirichlet' on every side, got {grid.boundary}."
            )
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk={chunk} must be 1 or more samples; None derives it.")
        self.grid, self.source, self.boundary = grid, source, boundary
        self.tolerance, self.max_iterations = tolerance, max_iterations
        self.chunk = chunk or max(1, 2**18 // math.prod(grid.shape))
        self._linear = LinearSystem(_balance, self._solve_adjoint)

    def __call__(self, a: Tensor) -> Tensor:
        return self.solve(a)[0]

    def solve(
        self, a: Tensor, f: Value | None = None, boundary: Boundary | None = None
    ) -> tuple[Tensor, Info]:
        """u [b, 1, *space], and the iterations and true residual of every sample.

        f and boundary, if given, replace those of the constructor. Raises `NotConverged`, and
        ValueError when a field is misshapen or not finite or a is not positive.
        """
        self._check_shape("a", a)
        require("a", a, (a > 0) & a.isfinite(), "positive and finite")
        data = self._data(f, boundary, len(a), like=a.new_empty(0, dtype=torch.float64))
        for name, value in zip(("f", *["boundary"] * (len(data) - 1)), data, strict=True):
            require(name, value, value.isfinite(), "finite")

        solutions, infos = [], []
        for chunk in zip(*(t.split(self.chunk) for t in (a[:, 0], *data)), strict=True):
            faces, b = self._system(*(t.double() for t in chunk))
            u, info = self._iterate(faces, b)
            solutions.append(self._linear.attach(u, b, *faces))
            infos.append(info)
        fields = [torch.cat(parts) for parts in zip(*(info[:3] for info in infos), strict=True)]
        info = Info(*fields, self.tolerance)
        info.require(_ADVICE)
        return torch.cat(solutions).unsqueeze(1).to(a.dtype), info

    def residual(
        self, a: Tensor, u: Tensor, f: Value | None = None, boundary: Boundary | None = None
    ) -> Tensor:
        """-div(a grad u) - f of the same discretisation, [b, 1, *space], for physics losses.

        Differentiable any number of times, in the wider dtype of a and u. Values are not checked.
        """
        self._check_shape("a", a)
        self._check_shape("u", u)
        wider = a.new_empty(0, dtype=torch.promote_types(a.dtype, u.dtype))
        faces, b = self._system(a[:, 0], *self._data(f, boundary, len(a), like=wider))
        return ((Stencil(faces)(u[:, 0]) - b) / math.prod(self.grid.spacing)).unsqueeze(1)

    def _data(
        self, f: Value | None, boundary: Boundary | None, b: int, like: Tensor
    ) -> list[Tensor]:
        """f [b, *space] and the wall values [b, *face]: lower x, upper x, lower y, ..."""
        f = self.source if f is None else f
        boundary = self.boundary if boundary is None else boundary
        source = expand("f", f, (b, 1, *self.grid.shape), like)[:, 0]
        return [source, *wall_values(boundary, self.grid, b, like)]

    def _system(self, a: Tensor, f: Tensor, *walls: Tensor) -> tuple[list[Tensor], Tensor]:
        """Transmissibilities and right-hand side of the balance of every cell."""
        faces = transmissibilities(a, self.grid.spacing)
        b = f * math.prod(self.grid.spacing)
        for axis, t in enumerate(faces):
            layers, t = b.movedim(axis + 1, 0), t.movedim(axis + 1, 0)
            layers[0] += t[0] * walls[2 * axis]
            layers[-1] += t[-1] * walls[2 * axis + 1]
        return faces, b

    @torch.no_grad()
    def _iterate(self, faces: Sequence[Tensor], b: Tensor) -> tuple[Tensor, Info]:
        return conjugate_gradients(
            Stencil(faces),
            b,
            Multigrid(faces, self.grid.spacing),
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )

    def _solve_adjoint(self, b: Tensor, *faces: Tensor) -> Tensor:
        u, info = self._iterate(faces, b)
        info.require(f"This was the adjoint solve of a gradient. {_ADVICE}")
        return u

    def _check_shape(self, name: str, field: Tensor) -> None:
        if field.shape[1:] != (1, *self.grid.shape) or field.dim() != self.grid.ndim + 2:
            raise ValueError(
                f"{name} must have shape [b, 1, {', '.join(map(str, self.grid.shape))}] "
                f"(one channel on the grid), got {tuple(field.shape)}."
            )
        if not field.is_floating_point():
            raise ValueError(f"{name} must be a real floating-point field, got {field.dtype}.")


def _balance(u: Tensor, *faces: Tensor) -> Tensor:
    return Stencil(faces)(u)


_ADVICE = (
    "Raise max_iterations if the limit was hit; loosen the tolerance if it stagnated, as it does "
    "near rounding error on fine grids; look at the contrast of a, which slows convergence."
)
