"""Products of vectors with a Gauss-Newton matrix, which is never formed."""

import torch
from torch import Tensor

from sciml.curvature.parameter_vector import ParameterVector
from sciml.gauss_newton import Expansion


class GaussNewtonProduct:
    """v -> G v,    G = sum of J^T diag(w) J over the terms of an expansion,    v [n]

    symmetric and positive semidefinite, exactly so but for rounding [Schraudolph 2002, Neural
    Computation 14]. u -> J^T u is a backward pass that is itself put on record; being linear in
    u, its derivative by u in the direction v is J v. A product walks that record once for J v and
    the graph of the residuals once for J^T (w J v), about two backward passes; no forward pass is
    repeated, and the record takes about the memory of the graph once more.

    Make the expansion within `layers.fusion.parts_one_by_one`: fused layers give the same product,
    but compute again what they did not keep. Layers must be twice differentiable, and the graph
    must not divide its work among processes (`layers.map_shared`).
    """

    def __init__(self, expansion: Expansion, layout: ParameterVector):
        self.layout, self.value = layout, expansion.value
        self.residuals = [term.residual for term in expansion.terms]
        self.weights = [term.weight.detach() for term in expansion.terms]
        if any(residual.is_complex() for residual in self.residuals):
            raise ValueError("residuals must be real; give view_as_real of a complex one.")
        with torch.enable_grad():
            self._dual = [torch.zeros_like(r).requires_grad_() for r in self.residuals]
            pulled = self._pull(self.residuals, self._dual, create_graph=True)
        self._pulled = [None if p is None or not p.requires_grad else p for p in pulled]

    def __call__(self, v: Tensor) -> Tensor:
        """G v."""
        return self.transposed([w * y for w, y in zip(self.weights, self.push(v), strict=True)])

    def push(self, v: Tensor) -> list[Tensor]:
        """J v, a tensor like the residual of each term."""
        pairs = [
            (p, part)
            for p, part in zip(self._pulled, self.layout.split(v), strict=True)
            if p is not None
        ]
        if not pairs:
            return [torch.zeros_like(r) for r in self.residuals]
        outputs, vectors = zip(*pairs, strict=True)
        found = torch.autograd.grad(
            outputs, self._dual, vectors, retain_graph=True, allow_unused=True
        )
        return [
            torch.zeros_like(r) if y is None else y
            for r, y in zip(self.residuals, found, strict=True)
        ]

    def transposed(self, vectors: list[Tensor]) -> Tensor:
        """J^T of one tensor for each term."""
        return self.layout.join(self._pull(self.residuals, vectors))

    def draw(self) -> Tensor:
        """J^T (w^1/2 eps) with standard normal eps: a vector of mean zero and covariance G."""
        return self.transposed(
            [
                w.sqrt() * torch.randn_like(r)
                for w, r in zip(self.weights, self.residuals, strict=True)
            ]
        )

    def gradient(self) -> Tensor:
        """Of the value."""
        return self.layout.join(self._pull([self.value], [torch.ones_like(self.value)]))

    def _pull(self, outputs, vectors, create_graph: bool = False) -> tuple[Tensor | None, ...]:
        return torch.autograd.grad(
            outputs,
            self.layout.parameters,
            vectors,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
        )
