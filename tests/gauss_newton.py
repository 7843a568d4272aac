"""Dense Gauss-Newton matrices by autograd, to compare factors with."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sciml.curvature import KFAC
from sciml.curvature.factored import Factored
from sciml.curvature.packing import unpacked
from sciml.gauss_newton import Expansion, Term
from sciml.losses import MeanSquaredError


class Problem:
    """A model, inputs and targets, and the mean of a loss over samples and channels."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, loss: nn.Module | None = None):
        self.model, self.x, self.y = model, x, y
        self.loss = loss if loss is not None else MeanSquaredError()

    def expand(self, prediction: Tensor, y: Tensor) -> Expansion:
        value = self.loss(prediction, y, None)
        term = self.loss.term(prediction, y, None)
        return Expansion(value.mean(), [term.scaled(1 / value.numel())])

    def objective(self, samples: int | None = None) -> Expansion:
        part = slice(samples)
        return self.expand(self.model(self.x[part]), self.y[part])

    def gradients(self) -> dict[str, Tensor]:
        """Of the loss."""
        self.model.zero_grad()
        self.objective().value.backward()
        return {name: p.grad for name, p in self.model.named_parameters()}

    def dense(self, *names: str) -> Tensor:
        """J^T diag(w) J with respect to the named parameters, in their order."""
        parameters = dict(self.model.named_parameters())
        names = names or tuple(parameters)

        def residual(*values: Tensor) -> Tensor:
            given = parameters | dict(zip(names, values, strict=True))
            out = functional_call(self.model, given, (self.x,))
            return self.expand(out, self.y).terms[0].residual

        chosen = tuple(parameters[name].detach() for name in names)
        jacobian = torch.autograd.functional.jacobian(residual, chosen, vectorize=False)
        term: Term = self.objective().terms[0]
        J = torch.cat([j.flatten(term.residual.ndim).flatten(0, -2) for j in jacobian], dim=1)
        w = term.weight.expand_as(term.residual).reshape(-1, 1)
        return (J.T @ (w * J)).detach()

    def kfac(self, kind: type[KFAC] = KFAC, **options) -> KFAC:
        """Attached to this problem; exact unless `fisher` says otherwise."""
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=1.0)
        kfac = kind(optimizer, **{"fisher": "exact", "decay": 1 - 1e-9} | options)
        kfac.attach(self.model, self.objective)
        return kfac

    def factored(self, passes: int = 1, **options) -> Factored:
        """The blocks of this problem, averaged over so many passes."""
        curvature = self.kfac(**options).curvature
        for _ in range(passes):
            curvature.observe()
        return curvature

    def factors(self, name: str, **options) -> tuple[Tensor, Tensor]:
        """A [K, i, i] and B [K, o, o] of the layer at that path."""
        return factors(self.factored(**options), name)


def factors(curvature: Factored, name: str) -> tuple[Tensor, Tensor]:
    block = curvature.blocks[name]
    return tuple(unpacked(f, n) for f, n in zip(block.factors, block.shape[1:], strict=True))


def realrep(M: Tensor) -> Tensor:
    """The real matrix of a complex one, on (real parts, imaginary parts)."""
    return torch.cat((torch.cat((M.real, -M.imag), 1), torch.cat((M.imag, M.real), 1)))


def in_layer_order(block: Tensor, layer) -> Tensor:
    """A dense matrix over a real layer's parameters, in the order of its matrices [K, i, o]."""
    size = block.shape[0]
    numbers = torch.arange(size, dtype=torch.float64)
    shapes = [p.shape for p in layer.parameters]
    parts = numbers.split([p.numel() for p in layer.parameters])
    order = layer.join([t.view(s) for t, s in zip(parts, shapes, strict=True)]).flatten().long()
    return block[order][:, order]


def close(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> bool:
    """Whether a - b is that small beside b, or beside 1 if b is tiny."""
    return bool((a - b).norm() <= tolerance * max(float(b.norm()), 1e-300))


def flat(function: Callable[[Tensor], Tensor]) -> nn.Module:
    """A function as a module."""

    class Function(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    return Function()
