"""What layers saw in one pass, and the gradients at their outputs."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from inspect import signature
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from sciml.curvature.neuralop_spectral import Contraction
from sciml.curvature.tokens import Call
from sciml.gauss_newton import Expansion

Fisher = Literal["monte_carlo", "exact", "empirical"]


class Capture:
    """Within it, calls of `modules` are noted; afterwards `gradients` walks back to their outputs.

        with Capture(modules, model) as capture:
            expansion = objective()
        for calls, gradients in capture.gradients(expansion, "monte_carlo", parameters): ...

    Hooks exist within the context alone, so that layers are fused as before outside of it. Calls
    without a graph are left out. Layers of batch normalisation use their running statistics: a
    sample must not see the others, and another pass must not be counted.
    """

    def __init__(self, modules: Iterable[nn.Module], model: nn.Module):
        self.modules, self.model = list(dict.fromkeys(modules)), model
        self._calls: dict[nn.Module, list[tuple[tuple, GradientEdge]]] = defaultdict(list)
        self._handles: list = []
        self._installed: list[Contraction] = []
        self._normalising: list[nn.Module] = []

    def __enter__(self) -> "Capture":
        self._calls.clear()
        self._installed = [module for module in self.modules if isinstance(module, Contraction)]
        for module in self._installed:
            module.install()
        self._handles = [
            module.register_forward_hook(self._note, with_kwargs=True) for module in self.modules
        ]
        self._normalising = [
            m for m in self.model.modules() if isinstance(m, _BatchNorm) and m.training
        ]
        for module in self._normalising:
            module.eval()
        self._counting = {
            m: m.momentum
            for m in self.model.modules()
            if isinstance(m, _InstanceNorm) and m.track_running_stats
        }
        for module in self._counting:
            module.momentum = 0.0
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        for module in self._installed:
            module.remove()
        for module in self._normalising:
            module.train()
        for module, momentum in self._counting.items():
            module.momentum = momentum

    def _note(self, module: nn.Module, arguments: tuple, named: dict, output: Tensor) -> None:
        if output.requires_grad:
            if named:
                arguments = signature(module.forward).bind(*arguments, **named).args
            self._calls[module].append((arguments, get_gradient_edge(output)))

    def called(self, module: nn.Module) -> bool:
        return bool(self._calls[module])

    def gradients(
        self, expansion: Expansion, fisher: Fisher, parameters: Sequence[nn.Parameter]
    ) -> Iterator[tuple[dict[nn.Module, list[Call]], list[Tensor]]]:
        """Calls with gradients at their outputs, and gradients of `parameters`, of

        monte_carlo   r . (w^1/2 eps) with one draw of standard normal numbers eps: sums over
                      samples of outer products have the mean J^T diag(w) J
        exact         r_j w_j^1/2 for one entry j after the other: those sums, added up over
                      the entries, are J^T diag(w) J itself; for tests and tiny networks
        empirical     the loss, times the root of the number of samples: the covariance of the
                      gradients of single samples, which is another matrix
        """
        for outputs, vectors in _pulled_back(expansion, fisher):
            yield self._walk(outputs, vectors, parameters)

    def _walk(self, outputs, vectors, parameters):
        edges = [(m, a, edge) for m, calls in self._calls.items() for a, edge in calls]
        wanted = [edge for *_, edge in edges] + list(parameters)
        found = torch.autograd.grad(outputs, wanted, vectors, retain_graph=True, allow_unused=True)
        calls = defaultdict(list)
        for (module, arguments, edge), gradient in zip(edges, found, strict=False):
            calls[module].append(Call(module, arguments, _known(gradient, edge)))
        rest = found[len(edges) :]
        rest = [
            torch.zeros_like(p) if g is None else g for p, g in zip(parameters, rest, strict=True)
        ]
        return calls, rest


def _known(gradient: Tensor | None, edge: GradientEdge) -> Tensor:
    """Zeros for an output on which nothing depends."""
    if gradient is not None:
        return gradient
    metadata = edge.node._input_metadata[edge.output_nr]
    return torch.zeros(metadata.shape, dtype=metadata.dtype, device=metadata.device)


def _pulled_back(
    expansion: Expansion, fisher: Fisher
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Outputs and the vectors that are pulled back from them."""
    terms = expansion.terms
    residuals = [term.residual for term in terms]
    if fisher == "monte_carlo":
        yield residuals, [t.weight.sqrt() * torch.randn_like(t.residual) for t in terms]
    elif fisher == "empirical":
        samples = float(len(residuals[0])) ** 0.5
        yield [expansion.value], [torch.full_like(expansion.value, samples)]
    else:
        for term in terms:
            root = term.weight.sqrt().expand_as(term.residual)
            for j in range(root.numel()):
                vector = root.new_zeros(root.numel())
                vector[j] = root.flatten()[j]
                yield [term.residual], [vector.view(root.shape)]
