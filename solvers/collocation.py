"""Boundary value problems on an interval by Chebyshev collocation: a reference for smooth ones."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from solvers.chebyshev import Chebyshev
from solvers.krylov import NotConverged
from solvers.walls import Value, expand


class End(NamedTuple):
    """value * u + slope * du/dn = g with the outward derivative: Dirichlet, Neumann or Robin."""

    value: float = 1.0
    slope: float = 0.0


class Collocation:
    """a u'' + b u' + c u = f, or u'' + r(u) = f, with a condition at either end.

    The equation holds at every Chebyshev point but the ends, whose rows are the conditions; the
    matrix is dense and solved by LU, O(n^3) per sample. Fields are [b, 1, size] on
    `axis.points`, in the precision of f (float64 for a reference: a second derivative of n
    points multiplies rounding by about n^2 in u). Differentiable in all arguments.

    Source: Trefethen, Spectral Methods in MATLAB (2000), chapters 7, 13 and 14.
    """

    def __init__(self, axis: Chebyshev, ends: tuple[End, End] = (End(), End())):
        if any(end.value == 0 and end.slope == 0 for end in ends):
            raise ValueError("an End needs a value or a slope that is not zero.")
        self.axis, self.ends = axis, ends
        self._first, self._second = axis.derivative(1), axis.derivative(2)
        rows = [end.value * torch.eye(axis.size, dtype=torch.float64)[at] for end, at in self._at()]
        for row, (end, at), outward in zip(rows, self._at(), (-1, 1), strict=True):
            row += end.slope * outward * self._first[at]
        self._rows = rows

    def solve(
        self,
        f: Tensor,
        *,
        a: Value = 1.0,
        b: Value = 0.0,
        c: Value = 0.0,
        data: tuple[Value, Value] = (0.0, 0.0),
    ) -> Tensor:
        """u of the linear problem; a, b, c broadcast to the shape of f, `data` (g) to [b, 1].

        A problem without a unique solution, u'' = f between Neumann ends, gives no warning.
        """
        self._check(f)
        named = (("a", a), ("b", b), ("c", c))
        matrix = self._matrix(*(expand(name, value, f.shape, f) for name, value in named))
        return torch.linalg.solve(matrix, self._right_side(f, data)[..., None])[..., 0]

    def newton(
        self,
        f: Tensor,
        reaction: Callable[[Tensor], Tensor],
        *,
        data: tuple[Value, Value] = (0.0, 0.0),
        start: Tensor | None = None,
        tolerance: float = 1e-9,
        max_iterations: int = 30,
    ) -> tuple[Tensor, Tensor]:
        """u of u'' + r(u) = f and the number of Newton steps per sample [b], from `start` or zero.

        `reaction` is r, pointwise and differentiable. A sample is done when a step is at most
        `tolerance` times the largest of 1 and |u|, and left alone then. Full steps, without a
        line search: a nonlinear problem may have several solutions, or lead to none from there,
        which raises `NotConverged`. First derivatives in f and the data, and in what r closes
        over, come from one more linear solve.
        """
        self._check(f)
        one, zero = torch.ones_like(f), torch.zeros_like(f)
        u = zero if start is None else start.detach()
        steps = torch.zeros(len(f), dtype=torch.long, device=f.device)
        done = torch.zeros(len(f), dtype=torch.bool, device=f.device)
        for _ in range(max_iterations):
            if done.all():
                break
            step = self._newton_step(u, f.detach(), reaction, data, one, zero).detach()
            step = torch.where(done[:, None, None], 0.0, step)
            u, steps = u + step, steps + ~done
            size = u.abs().flatten(1).amax(dim=1).clamp(min=1)
            done = done | (step.abs().flatten(1).amax(dim=1) <= tolerance * size)
        if not done.all():
            raise NotConverged(
                f"{int((~done).sum())} of {len(f)} samples did not converge in {max_iterations} "
                "Newton steps; start nearer, or loosen the tolerance if rounding holds it up."
            )
        # One more step, whose derivative is that of the solution.
        return u + self._newton_step(u, f, reaction, data, one, zero), steps

    def _newton_step(
        self,
        u: Tensor,
        f: Tensor,
        reaction: Callable[[Tensor], Tensor],
        data: tuple[Value, Value],
        one: Tensor,
        zero: Tensor,
    ) -> Tensor:
        with torch.enable_grad():
            point = u.detach().requires_grad_()
            (slope,) = torch.autograd.grad(reaction(point).sum(), point)
        rest = f - reaction(u) - u @ self._second.to(u).mT
        values = u.detach() @ torch.stack(self._rows).to(u).mT
        gaps = tuple(g - values[..., i] for i, g in enumerate(self._data(data, f)))
        matrix = self._matrix(one, zero, slope)
        return torch.linalg.solve(matrix, self._right_side(rest, gaps)[..., None])[..., 0]

    def _matrix(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """[b, 1, size, size], the end rows being the conditions."""
        inner = (
            a[..., None] * self._second.to(a)
            + b[..., None] * self._first.to(a)
            + torch.diag_embed(c)
        )[..., 1:-1, :]
        lower, upper = (row.to(a).expand(*a.shape[:-1], 1, -1) for row in self._rows)
        return torch.cat((lower, inner, upper), dim=-2)

    def _right_side(self, f: Tensor, data: tuple[Value, Value]) -> Tensor:
        lower, upper = (g.unsqueeze(-1) for g in self._data(data, f))
        return torch.cat((lower, f[..., 1:-1], upper), dim=-1)

    def _data(self, data: tuple[Value, Value], f: Tensor) -> list[Tensor]:
        return [expand("data", g, (len(f), 1), f) for g in data]

    def _at(self) -> list[tuple[End, int]]:
        return list(zip(self.ends, (0, -1), strict=True))

    def _check(self, f: Tensor) -> None:
        if f.dim() != 3 or f.shape[1:] != (1, self.axis.size):
            raise ValueError(f"f: expected [b, 1, {self.axis.size}], got {tuple(f.shape)}.")
