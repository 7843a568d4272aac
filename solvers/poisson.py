"""Poisson and Helmholtz equations on a box, solved directly in its eigenfunctions."""

import torch
from torch import Tensor

from solvers.fourier import on
from solvers.grid import Grid
from solvers.trigonometric import Trigonometric
from solvers.walls import Boundary, wall_values


class Poisson:
    """c u - Lap u = f on a box, every axis periodic, Dirichlet or Neumann:  f -> u.

    `method="difference"` solves the second-order equations of the 3-, 5- or 7-point stencil to
    rounding, boundary values g (u, or the outward derivative on a Neumann side) included;
    `method="spectral"` takes u and f for sums of eigenfunctions of the box: exponentially accurate
    where f and its continuation are smooth, g = 0 only. `shift` is c. Fields [b, 1, *space] in
    the precision of f; differentiable in f and g. For the sides and points see `Trigonometric`.

    With c = 0 and no Dirichlet side the mean of u is open, and is zero here; f and g must then
    balance, sum f + sum g / h = 0, and a ValueError says by how much they do not. A negative c
    (Helmholtz) must keep away from the eigenvalues. Nothing here knows variable coefficients or
    holes in the box.
    """

    def __init__(self, grid: Grid, *, shift: float = 0.0, method: str = "difference"):
        if method not in ("difference", "spectral"):
            raise ValueError(f"method={method!r} must be 'difference' or 'spectral'.")
        self.grid, self.shift, self.method = grid, shift, method
        self._basis = Trigonometric(grid)
        symbol = shift - self._basis.laplacian(difference=method == "difference")
        scale = symbol.abs().max()
        self.is_singular = bool(shift == 0 and symbol.abs().min() < 1e-12 * scale)
        if not self.is_singular and symbol.abs().min() < 1e-12 * scale:
            raise ValueError(
                f"shift={shift} is an eigenvalue of the Laplacian on this grid; u is not unique. "
                "Move it a little or change the grid."
            )
        zero = symbol.abs() < 1e-12 * scale
        self._inverse = torch.where(zero, 0.0, 1 / torch.where(zero, 1.0, symbol))

    def __call__(self, f: Tensor, boundary: Boundary = 0.0) -> Tensor:
        """u [b, 1, *space]; `boundary` as in `wall_values`, without effect on periodic axes."""
        expected = (1, *self.grid.shape)
        if f.dim() != len(expected) + 1 or tuple(f.shape[1:]) != expected:
            space = ", ".join(map(str, expected))
            raise ValueError(f"f: expected [b, {space}], got {tuple(f.shape)}.")
        walls = wall_values(boundary, self.grid, len(f), f)
        if self.method == "spectral" and any(bool(w.any()) for w in walls):
            raise ValueError("method='spectral' has g = 0 only; subtract a field that takes g.")
        b = f[:, 0].clone()
        for i in range(self.grid.ndim):
            self._add_wall_(b, i, *walls[2 * i : 2 * i + 2])
        v = self._basis.analyse(b)
        if self.is_singular:
            self._require_balance(v, b)
        u = self._basis.synthesise(v * on(self._inverse, b))
        for i, axis in enumerate(self.grid.axes):
            if axis.points == "nodes" and axis.boundary[0] == "dirichlet":
                for at, wall in zip((0, -1), walls[2 * i : 2 * i + 2], strict=True):
                    u.select(i + 1, at).copy_(wall)
        return u.unsqueeze(1)

    def root(self, f: Tensor) -> Tensor:
        """(c - Lap)^(-1/2) f of fields [b, 1, *space] that vanish, or whose derivative does, on the
        walls: applied twice it is u. ValueError where c - Lap is not positive.
        """
        if self._inverse.min() <= 0:
            raise ValueError(f"c - Lap with c={self.shift} has no real inverse root: raise shift.")
        v = self._basis.analyse(f[:, 0])
        return self._basis.synthesise(v * on(self._inverse.sqrt(), v.real)).unsqueeze(1)

    def _add_wall_(self, b: Tensor, i: int, lower: Tensor, upper: Tensor) -> None:
        """What the boundary values of one axis contribute to the right-hand side, added to it."""
        axis = self.grid.axes[i]
        if axis.is_periodic:
            return
        h, last = axis.spacing, axis.size - 1
        for value, kind, at in ((lower, axis.boundary[0], 0), (upper, axis.boundary[1], last)):
            if axis.points == "cells":
                weight = 2 / h**2 if kind == "dirichlet" else 1 / h
            elif kind == "neumann":
                weight = 2 / h
            else:
                at, weight = (1 if at == 0 else last - 1), 1 / h**2
            b.select(i + 1, at).add_(value, alpha=weight)

    def _require_balance(self, v: Tensor, b: Tensor) -> None:
        excess = v.detach().abs()[:, self._inverse == 0].flatten(1).amax(dim=1)
        allowed = 1e-9 if b.dtype == torch.float64 else 1e-4
        # A lower bound of the size below, without a transform.
        if not (excess > allowed * b.detach().abs().flatten(1).sum(dim=1)).any():
            return
        size = self._basis.analyse(b.detach().abs()).abs()[:, self._inverse == 0].flatten(1).amax(1)
        if (excess > allowed * size).any():
            worst = int((excess / size).argmax())
            raise ValueError(
                f"no side holds u, so f and the boundary values must balance, but in sample "
                f"{worst} they sum to {float(excess[worst] / size[worst]):.2e} of their sizes. "
                "Subtract the mean of f, or give a Dirichlet side."
            )
