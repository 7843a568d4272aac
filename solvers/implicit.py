"""Gradients through the solution of a linear system, without its iterations."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from solvers.stencil import is_periodic, pad_axis

LinearSolve = Callable[[Sequence[Tensor], Tensor], Tensor]


class Implicit(torch.autograd.Function):
    """u with A u = b, A = Stencil(faces, ground), as a differentiable function of b, faces, ground.

        forward     A u = b
        backward    A lam = u*,    b* = lam,    t*_face = -(lam_i - lam_j)(u_i - u_j),
                    ground*_i = -lam_i u_i

    where a star marks the gradient of a scalar and values beyond a wall are zero. `solve(t, b)`
    returns the solution, t being the faces and, if given, the ground; how it does is its own
    affair, so memory does not grow with iterations. `Implicit.apply(solve, u, b, *t)` takes the
    solution u that the caller has computed. The adjoint is an `Implicit` again, so derivatives of
    any order come out, one more solve each. If A is singular, `solve` must ignore what b and u*
    hold outside its range; derivatives are then those within it.
    """

    @staticmethod
    def forward(ctx, solve: LinearSolve, u: Tensor, b: Tensor, *t: Tensor) -> Tensor:
        u = u.view_as(u)
        ctx.solve = solve
        ctx.save_for_backward(u, *t)  # u as an output: backward is differentiated through it
        return u

    @staticmethod
    def backward(ctx, gradient: Tensor):
        u, *t = ctx.saved_tensors
        adjoint = Implicit.apply(ctx.solve, ctx.solve(t, gradient), gradient, *t)
        ndim = u.dim() - 1
        ground = t[ndim] if len(t) > ndim else None
        drops = [
            [_jumps(v, axis, is_periodic(t[axis], axis, ground)) for v in (adjoint, u)]
            for axis in range(ndim)
        ]
        if ground is not None:
            drops.append([adjoint, u])
        return None, None, adjoint, *(-math.prod(pair) for pair in drops)


def _jumps(v: Tensor, axis: int, periodic: bool) -> Tensor:
    """Over every face of an axis, the value above less the value below."""
    if periodic:
        return v - v.roll(1, axis + 1)
    return pad_axis(v, axis).diff(dim=axis + 1)
