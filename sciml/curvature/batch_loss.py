"""The loss on the last batch as one function of the parameters, whatever in it is random."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _NormBase

from sciml.curvature.gauss_newton_product import GaussNewtonProduct
from sciml.curvature.parameter_vector import ParameterVector
from sciml.curvature.processes import averaged
from sciml.gauss_newton import Expansion
from sciml.layers.fusion import parts_one_by_one

Objective = Callable[[int | None], Expansion]


class BatchLoss:
    """Values, gradients and curvature of `objective`, called again and again.

    Every call draws the random numbers that follow the state of the generators at the time this
    object was made: made before the closure of a step, it repeats the dropout, the noise and the
    symmetries of the gradient. The generators themselves go on as if nothing had been called.
    Layers of batch normalisation count no statistics meanwhile, and there is no autocast.
    Processes of `torch.distributed` take the mean of values and gradients.
    """

    def __init__(self, objective: Objective, model: nn.Module, layout: ParameterVector):
        self.objective, self.model, self.layout = objective, model, layout
        self._devices = sorted({p.device.index for p in layout.parameters if p.is_cuda})
        self._state = torch.get_rng_state()
        self._device_states = [torch.cuda.get_rng_state(i) for i in self._devices]

    def value(self) -> float:
        """The loss at the present parameters."""
        with torch.no_grad(), self.replayed():
            value = self.objective(None).value.detach().reshape(1).clone()
        return float(averaged(value))

    def curvature(self, samples: int | None = None) -> GaussNewtonProduct:
        """Of the first `samples` samples, or of all. Its own products are not averaged."""
        with torch.enable_grad(), self.replayed():
            expansion = self.objective(samples)
        return GaussNewtonProduct(expansion, self.layout)

    def with_gradient(self, G: GaussNewtonProduct | None = None) -> tuple[float, Tensor]:
        """The loss and its gradient [n], on the samples of G, whose graph is there, if given."""
        if G is None:
            with torch.enable_grad(), self.replayed():
                value = self.objective(None).value
            gradient = torch.autograd.grad(value, self.layout.parameters, allow_unused=True)
            gradient = self.layout.join(gradient)
        else:
            value, gradient = G.value, G.gradient()
        both = averaged(torch.cat((value.detach().reshape(1), gradient)))
        return float(both[0]), both[1:]

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """The random state of the beginning, layers part by part, no statistics counted."""
        counting = [
            m for m in self.model.modules() if isinstance(m, _NormBase) and m.track_running_stats
        ]
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(self._devices))
            torch.set_rng_state(self._state)
            for device, state in zip(self._devices, self._device_states, strict=True):
                torch.cuda.set_rng_state(state, device)
            device = next((p.device.type for p in self.layout.parameters), "cpu")
            stack.enter_context(torch.autocast(device, enabled=False))
            stack.enter_context(parts_one_by_one())
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # the others differentiate once
            for module in counting:
                module.track_running_stats = not module.training
            try:
                yield
            finally:
                for module in counting:
                    module.track_running_stats = True
