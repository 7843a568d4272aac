"""Which real parameters of a model are complex numbers, and optimizers that are told."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from sciml.curvature.convolution import CONVOLUTIONS, TRANSPOSED
from sciml.gauss_newton import Expansion
from sciml.layers import DenseWeight, FactorizedWeight, TensorTrainWeight
from sciml.layers.spacetime import SpectralOutput

SCALES = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


class Layout(NamedTuple):
    """How the numbers of a parameter are arranged, before the axis of real and imaginary part that
    ends a pair:

        kernel     [out, rest] or [out, in, *kernel], so many `groups` of outputs apart; all real
                   parameters of which nothing else is known
        modes      [*modes, in, out], a matrix for each mode; spectral weights, cores of Tucker's
        train      [rank, axis, rank], a core of a tensor train
        channels   [in, out, *modes], complex parameters of other projects
        elements   numbers side by side: scales of a normalisation, a spectral bias
    """

    kind: Literal["kernel", "modes", "train", "channels", "elements"]
    is_pair: bool = False
    groups: int = 1


def layouts(model: nn.Module) -> dict[int, Layout]:
    """Layouts of the parameters, by id, that are pairs [..., 2] or not what they look like.

    Pairs are found where `DenseWeight`, `FactorizedWeight` and `SpectralOutput` stand in the
    model; other modules that write complex numbers as pairs have real parameters to this function.
    """
    found: dict[int, Layout] = {}
    for module in model.modules():
        if isinstance(module, DenseWeight):
            found[id(module.entries)] = Layout("modes", is_pair=True)
        elif isinstance(module, FactorizedWeight):
            kind = "train" if isinstance(module, TensorTrainWeight) else "modes"
            found |= {id(p): Layout(kind, is_pair=True) for p in module.parameters()}
        elif isinstance(module, SpectralOutput):
            found[id(module.bias)] = Layout("elements", is_pair=True)
        elif isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
            found[id(module.weight)] = Layout("kernel", groups=module.groups)
        elif isinstance(module, SCALES):
            found |= {id(p): Layout("elements") for p in module.parameters(recurse=False)}
    return found


class PairedOptimizer(Optimizer, ABC):
    """An optimizer that knows which of its real parameters are complex; abstract.

    It learns so by `attach(model, objective)`, which comes before the first step; without it real
    parameters are real, and complex ones complex in any case. States are real numbers in the
    precision of their parameter, complex ones pairs: `load_state_dict` casts what it finds to the
    type of the parameter. Sparse gradients are not supported.
    """

    needs_terms = True  # of the expansion; else its value is enough

    def __init__(self, params: ParamsT, defaults: dict[str, Any]):
        super().__init__(params, defaults)
        self._layouts: dict[int, Layout] = {}
        self._names: dict[int, str] = {}
        self._model: nn.Module | None = None
        self._objective: Callable[[int | None], Expansion] | None = None

    def attach(self, model: nn.Module, objective: Callable[[int | None], Expansion]) -> None:
        """Learn of the model whose parameters these are; `objective(samples)` expands the loss on
        the last batch.
        """
        self._model, self._objective, self._layouts = model, objective, layouts(model)
        self._names = {id(p): name for name, p in model.named_parameters()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for group in state_dict["param_groups"]:
            if missing := sorted(self.defaults.keys() - group.keys()):
                raise ValueError(
                    f"{type(self).__name__}: the checkpoint is of another optimizer, it has no "
                    f"{', '.join(missing)}; continue with the one that it was written with."
                )
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._advance()
        return loss

    @abstractmethod
    def _advance(self) -> None:
        """Move all parameters that have gradients."""

    def layout(self, p: nn.Parameter) -> Layout:
        foreign = Layout("channels" if p.is_complex() and p.ndim > 2 else "kernel")
        found = self._layouts.get(id(p), foreign)
        return found._replace(is_pair=found.is_pair or p.is_complex())

    def name(self, p: nn.Parameter) -> str:
        return self._names.get(id(p), f"a parameter {tuple(p.shape)}")
