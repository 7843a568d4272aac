"""Two linear layers at each point."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from sciml.layers.fusion import chunks, fusible, is_still

aten = torch.ops.aten


class Perceptron(nn.Sequential):
    """Two linear layers with GELU between them, applied to the last axis.

    The hidden layer is the widest thing of a network. Where `fusible` allows it exists for one
    chunk of points at a time, and is computed again in the backward pass instead of kept.
    """

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int):
        super().__init__(
            nn.Linear(in_channels, hidden_channels),
            nn.GELU(),
            nn.Linear(hidden_channels, out_channels),
        )

    @property
    def is_standard(self) -> bool:
        """Whether the parts are of the kinds that the constructor chose."""
        kinds = (nn.Linear, nn.GELU, nn.Linear)
        return (
            len(self) == 3
            and all(map(is_still, self, kinds))
            and self[1].approximate == "none"
            and self[0].bias is not None
            and self[2].bias is not None
        )

    def forward(self, x: Tensor) -> Tensor:
        if not (fusible(self, x) and self.is_standard):
            return super().forward(x)
        first, _, second = self
        return FusedPerceptron.apply(x, first.weight, first.bias, second.weight, second.bias)


class FusedPerceptron(torch.autograd.Function):
    """gelu(x A^T + a) B^T + b in chunks of rows; saves x alone."""

    @staticmethod
    def forward(ctx, x, A, a, B, b):
        ctx.save_for_backward(x, A, a, B, b)
        rows = x.reshape(-1, x.shape[-1])
        y = x.new_empty(len(rows), len(B))
        for part in chunks(len(rows), len(A)):
            torch.addmm(b, aten.gelu_(torch.addmm(a, rows[part], A.T)), B.T, out=y[part])
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx, dy):
        x, A, a, B, b = ctx.saved_tensors
        if not is_final(dy):
            return gradients(_parts, (x, A, a, B, b), dy, ctx.needs_input_grad)
        rows, dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
        dx = torch.empty_like(rows) if ctx.needs_input_grad[0] else None
        dA, da, dB, db = (torch.zeros_like(p) for p in (A, a, B, b))
        for part in chunks(len(rows), len(A)):
            h = torch.addmm(a, rows[part], A.T)
            dh = hidden_gradient(h, dy[part], B, dB, db)
            dA.addmm_(dh.T, rows[part])
            da += dh.sum(0)
            if dx is not None:
                torch.mm(dh, A, out=dx[part])
        return None if dx is None else dx.view_as(x), dA, da, dB, db


def hidden_gradient(h: Tensor, dy: Tensor, B: Tensor, dB: Tensor, db: Tensor) -> Tensor:
    """Gradient of h, given that of y = gelu(h) B^T + b; adds those of B and b to dB and db."""
    q = gelu(h)
    if len(B) == 1:  # a product with one row sums with the error of the longest chain
        dB += q.mul_(dy).sum(0)
    else:
        dB.addmm_(dy.T, q)
    db += dy.sum(0)
    dq = torch.mm(dy, B)
    return aten.gelu_backward.grad_input(dq, h, grad_input=h)


def is_final(dy: Tensor) -> bool:
    """Whether the backward pass from dy will neither be differentiated again nor is batched."""
    return not (
        torch.is_grad_enabled()
        or torch._C._are_functorch_transforms_active()
        or torch._C._functorch.is_legacy_batchedtensor(dy)  # of autograd.grad
    )


def gradients(call: Callable[..., Tensor], inputs, dy: Tensor, needed) -> tuple[Tensor | None, ...]:
    """Differentiable gradients of call(*inputs) by autograd, None for inputs that need none."""
    with torch.enable_grad():
        # aliases: an input may depend on another one, which is not followed here
        aliases = [x.view_as(x) for x in inputs]
        y = call(*aliases)
    wanted = [x for x, need in zip(aliases, needed, strict=False) if need]
    found = iter(torch.autograd.grad(y, wanted, dy, create_graph=torch.is_grad_enabled()))
    return tuple(next(found) if need else None for need in needed)


def _parts(x: Tensor, A: Tensor, a: Tensor, B: Tensor, b: Tensor) -> Tensor:
    """The perceptron as autograd sees it."""
    return linear(gelu(linear(x, A, a)), B, b)
