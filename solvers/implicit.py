"""Gradients through the solution of a linear system, without its iterations."""

from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[..., Tensor]  # (tensor, *theta) -> tensor of the same shape


class LinearSystem:
    """x with A(theta) x = b as a differentiable function of b and of the tensors theta.

        forward     A x = b
        backward    A^H lam = x*,    b* = lam,    theta* = -(d (A x) / d theta)^H lam

    where a star marks the gradient of a scalar, and x is held in the last term. The adjoint is a
    LinearSystem again, so derivatives of any order come out, one more solve each.

        operator        operator(x, *theta) = A(theta) x, differentiable torch, linear in x
        solve           solve(b, *theta) = A(theta)^-1 b. How it does is its own affair: nothing is
                        recorded, so memory does not grow with iterations
        solve_adjoint   the same with A^H; None says that A is its own adjoint

    Gradients are as accurate as the solves, so `solve` should raise where it fails
    (`Info.require`). A singular A needs a `solve` that keeps to its range, for both b and x*; the
    gradient is then that of the solution without a part in the null space. A, b and x may be
    complex, with torch's convention for gradients. theta must reach `operator` as arguments: what
    it closes over gets no gradient. Forward-mode derivatives and `torch.func` transforms are not
    supported.
    """

    def __init__(self, operator: Map, solve: Map, solve_adjoint: Map | None = None):
        self.operator, self.solve, self.solve_adjoint = operator, solve, solve_adjoint

    def __call__(self, b: Tensor, *theta: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.solve(b.detach(), *(t.detach() for t in theta))
        return self.attach(x, b, *theta)

    def attach(self, x: Tensor, b: Tensor, *theta: Tensor) -> Tensor:
        """The solution x that the caller has computed, with its gradients."""
        return _Solution.apply(self, x, b, *theta)

    def adjoint(self) -> "LinearSystem":
        """The system of A^H, whose operator is the vector-Jacobian product of the first."""
        if self.solve_adjoint is None:
            return self

        def operator(y: Tensor, *theta: Tensor) -> Tensor:
            with torch.enable_grad():
                x = torch.zeros_like(y).requires_grad_()
                (z,) = torch.autograd.grad(self.operator(x, *theta), x, y, create_graph=True)
            return z

        return LinearSystem(operator, self.solve_adjoint, self.solve)


class _Solution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, system: LinearSystem, x: Tensor, b: Tensor, *theta: Tensor) -> Tensor:
        x = x.view_as(x)
        ctx.system = system
        ctx.save_for_backward(x, *theta)  # x as an output: backward is differentiated through it
        return x

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, *theta = ctx.saved_tensors
        adjoint = ctx.system.adjoint()(gradient, *theta)
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[3:]) if needed]
        gradients: list[Tensor | None] = [None] * len(theta)
        if wanted:
            again = torch.is_grad_enabled()
            with torch.enable_grad():
                # Aliases, so that nothing upstream that theta share is followed.
                aliases = [t.view_as(t) for t in theta]
                image = ctx.system.operator(x if again else x.detach(), *aliases)
                found = torch.autograd.grad(
                    image,
                    [aliases[i] for i in wanted],
                    -adjoint,
                    create_graph=again,
                    allow_unused=True,
                )
            for i, value in zip(wanted, found, strict=True):
                gradients[i] = value
        return None, None, adjoint, *gradients
