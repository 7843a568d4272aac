"""Gradients through the solution of a linear system, without its iterations."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from solvers.stencil import pad_axis

LinearSolve = Callable[[Sequence[Tensor], Tensor], Tensor]


class Implicit(torch.autograd.Function):
    """u with A u = b, A = Stencil(faces), as a differentiable function of b and the faces.

        forward     A u = b
        backward    A lam = u*,    b* = lam,    t*_face = -(lam_i - lam_j)(u_i - u_j)

    where a star marks the gradient of a scalar and values beyond a wall are zero. `solve(faces, b)`
    returns the solution; how it does is its own affair, so memory does not grow with iterations.
    `Implicit.apply(solve, u, b, *faces)` takes the solution u that the caller has computed. The
    adjoint is an `Implicit` again, so derivatives of any order come out, one more solve each.
    """

    @staticmethod
    def forward(ctx, solve: LinearSolve, u: Tensor, b: Tensor, *faces: Tensor) -> Tensor:
        u = u.view_as(u)
        ctx.solve = solve
        ctx.save_for_backward(u, *faces)  # u as an output: backward is differentiated through it
        return u

    @staticmethod
    def backward(ctx, gradient: Tensor):
        u, *faces = ctx.saved_tensors
        adjoint = Implicit.apply(ctx.solve, ctx.solve(faces, gradient), gradient, *faces)
        jumps = [
            [pad_axis(v, axis).diff(dim=axis + 1) for v in (adjoint, u)]
            for axis in range(len(faces))
        ]
        return None, None, adjoint, *(-math.prod(pair) for pair in jumps)
