"""Kronecker-factored approximate curvature as an optimizer."""

import logging
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.optim import AdamW, Optimizer

from sciml.curvature.axes import AxisKronecker
from sciml.curvature.capture import Capture, Fisher
from sciml.curvature.coverage import Coverage, cover
from sciml.curvature.diagonal import Diagonal
from sciml.curvature.factors import CoreLayer
from sciml.curvature.kronecker import Kronecker
from sciml.curvature.linear import Sharing
from sciml.curvature.moments import Moments
from sciml.curvature.shared_basis import SharedBasis
from sciml.curvature.tokens import Layer, Tokens
from sciml.gauss_newton import Expansion

log = logging.getLogger(__name__)
Block = Kronecker | SharedBasis | AxisKronecker
EARLY, EVERY = 20, 4  # the first steps, in which factors and inverses are renewed more often


class KFAC(Optimizer):
    """Steps along the natural gradient, as long as those of AdamW [Martens & Grosse 2015,
    arXiv:1503.05671; grafting: Agarwal et al. 2020, arXiv:2002.11803].

        m <- beta_1 m + (1 - beta_1) g
        theta <- (1 - lr weight_decay) theta - lr |u| P(m) / |P(m)|,    u = AdamW's direction

    for each tensor, with P = (G + damping)^(-1) in Kronecker form (`Kronecker`) for the layers
    that `cover` finds, spectral convolutions mode by mode, and its diagonal for all else. lr,
    betas, eps and weight_decay are those of `optimizer`, an AdamW that is not stepped itself. The
    second moment of a complex weight is one number for real and imaginary part.

    G, the Gauss-Newton matrix of the loss, is sampled every `factor_period` steps in one more
    forward and backward pass on the first `samples` samples of the batch (null: all), by
    `fisher="monte_carlo"`; it is averaged over time with `decay`. Inverses are renewed every
    `inverse_period` steps. In the first 20 steps both happen every four.

    `attach(model, objective)` comes first; `objective(samples)` is the `Expansion` of the loss on
    the last batch. Use it as any optimizer: `step(closure)`, gradients accumulated and clipped
    before. Processes of `torch.distributed` average their statistics. What it cannot do: several
    learning rates within a layer, parameters that join later, sparse gradients.
    """

    geometry: Callable[[Layer], Block] = Kronecker

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        damping: float = 1e-2,
        floor: float = 1e-2,
        factor_period: int = 10,
        inverse_period: int = 50,
        decay: float = 0.95,
        samples: int | None = None,
        fisher: Fisher = "monte_carlo",
        sharing: Sharing = "expand",
        exclude: Sequence[str] = (),
    ):
        if not isinstance(optimizer, AdamW):
            raise ValueError(
                f"{type(self).__name__} takes the length of its steps from AdamW, not "
                f"{type(optimizer).__name__}: set optimizer=adamw, or curvature=none."
            )
        if min(factor_period, inverse_period) < 1 or (samples is not None and samples < 1):
            raise ValueError(
                f"factor_period={factor_period}, inverse_period={inverse_period} and "
                f"samples={samples} must be at least 1."
            )
        if not (damping > 0 and floor >= 0 and 0 <= decay < 1):
            raise ValueError(
                f"damping={damping} must be positive, floor={floor} not negative and "
                f"decay={decay} from 0 to below 1."
            )
        super().__init__(optimizer.param_groups, optimizer.defaults)
        self.damping, self.floor, self.decay = damping, floor, decay
        self.factor_period, self.inverse_period = factor_period, inverse_period
        self.samples, self.fisher, self.sharing = samples, fisher, sharing
        self.exclude = tuple(exclude)
        self.steps = self.passes = 0
        self.failures: dict[str, int] = {}
        self._objective: Callable[[int | None], Expansion] | None = None

    def attach(self, model: nn.Module, objective: Callable[[int | None], Expansion]) -> None:
        """Learn of the model whose parameters these are, and of the loss."""
        self._model, self._objective = model, objective
        self.coverage = cover(model, sharing=self.sharing, exclude=self.exclude)
        if self.coverage.share < 0.5:
            first = next(iter(self.coverage.rest.items()), ("", ""))
            warnings.warn(
                f"curvature: {self.coverage.summary()}; the first of them {first[0]} ({first[1]}). "
                "Less than half: expect little beyond a diagonal method.",
                stacklevel=2,
            )
        self._arrange()
        self.blocks = {name: self._block(layer) for name, layer in self.coverage.layers.items()}

    def _block(self, layer: Layer) -> Block:
        return AxisKronecker(layer) if isinstance(layer, CoreLayer) else self.geometry(layer)

    def _arrange(self) -> None:
        coverage: Coverage = self.coverage
        parameters = dict(self._model.named_parameters())
        complex_ones = {
            id(p)
            for layer in coverage.layers.values()
            if layer.is_complex
            for p in layer.parameters
        }
        self._rest = {name: parameters[name] for name in coverage.rest}
        self.diagonals = {name: Diagonal(p) for name, p in self._rest.items()}
        self._moments = Moments(self, complex_ones)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._objective is None:
            raise ValueError(f"{type(self).__name__}: call attach(model, objective) before step().")
        early = self.steps < EARLY and self.steps % EVERY == 0
        if early or self.steps % self.factor_period == 0:
            self.observe()
        if early or self.steps % self.inverse_period == 0:
            self.refresh()
        self.steps += 1
        self._move()
        return loss

    @torch.no_grad()
    def observe(self) -> None:
        """One pass over the last batch that renews the factors."""
        modules = [
            module
            for layer in self.coverage.layers.values()
            for modules in layer.modules.values()
            for module in modules
        ]
        with torch.enable_grad():
            with Capture(modules, self._model) as capture:
                expansion = self._objective(self.samples)
            self._leave_uncalled(capture)
            rest = list(self._rest.values())
            found = self._gather(capture.gradients(expansion, self.fisher, rest))
        self._absorb(*found)

    def _gather(self, walks) -> tuple[dict[str, list[Tensor]], list[Tensor]]:
        """Statistics of the layers, and squares of the other gradients summed over the walks."""
        tokens: dict[str, list[Tokens]] = {name: [] for name in self.coverage.layers}
        squares: list[Tensor] = []
        for calls, gradients in walks:
            for name, layer in self.coverage.layers.items():
                seen = {
                    role: [call for module in modules for call in calls[module]]
                    for role, modules in layer.modules.items()
                }
                tokens[name].append(layer.tokens(seen))
            new = [(torch.view_as_real(g) if g.is_complex() else g).square() for g in gradients]
            squares = [a + b for a, b in zip(squares, new, strict=True)] if squares else new
        statistics = {
            n: self.blocks[n].statistics(type(found[0]).joined(found))
            for n, found in tokens.items()
        }
        return statistics, squares

    def _absorb(self, statistics: dict[str, list[Tensor]], squares: list[Tensor]) -> None:
        tensors = [t for ts in statistics.values() for t in ts] + squares
        average_over_processes(tensors)
        self.passes += 1
        weight = max(1 - self.decay, 1 / self.passes)
        for name, found in statistics.items():
            if all(bool(t.isfinite().all()) for t in found):
                self.blocks[name].absorb(found, weight)
            else:
                self._failed(name, "its statistics are not finite; those of before stay")
        for (name, diagonal), square in zip(self.diagonals.items(), squares, strict=True):
            if bool(square.isfinite().all()):
                diagonal.absorb(square, weight)
            else:
                self._failed(name, "its diagonal is not finite; that of before stays")

    def refresh(self) -> None:
        """Renew the inverses."""
        for name, block in self.blocks.items():
            if count := block.refresh(self.damping, self.floor):
                self._failed(
                    name, f"{count} of its factors have no inverse; the last good ones stay"
                )

    def _failed(self, name: str, reason: str) -> None:
        self.failures[name] = self.failures.get(name, 0) + 1
        if self.failures[name] == 1:
            warnings.warn(f"curvature of {name}, step {self.steps}: {reason}.", stacklevel=2)
        log.warning("curvature of %s, step %d: %s", name, self.steps, reason)

    def _leave_uncalled(self, capture: Capture) -> None:
        """Layers whose modules were not called, but whose weights somebody reads, have no factors:
        their diagonal takes over.
        """
        for name, layer in list(self.coverage.layers.items()):
            if not any(capture.called(m) for ms in layer.modules.values() for m in ms):
                self._to_diagonal(name)
                warnings.warn(
                    f"curvature: {name} is never called as a module, its diagonal takes over.",
                    stacklevel=2,
                )

    def _to_diagonal(self, name: str) -> None:
        names = {id(p): n for n, p in self._model.named_parameters()}
        for p in self.coverage.layers.pop(name).parameters:
            self.coverage.rest[names[id(p)]] = "its layer is never called"
            self._rest[names[id(p)]] = p
            self.diagonals[names[id(p)]] = Diagonal(p)
        del self.blocks[name]

    def _move(self) -> None:
        moments = self._moments
        moments.update()
        for name, layer in self.coverage.layers.items():
            present = [p for p in layer.parameters if p.grad is not None]
            if len(present) < len(layer.parameters):
                continue
            tensors = [self.state[p]["exp_avg"] for p in layer.parameters]
            G = self.blocks[name].apply(layer.join(tensors))
            for p, direction in zip(layer.parameters, layer.split(G), strict=True):
                moments.move(p, direction)
        for name, p in self._rest.items():
            if p.grad is not None:
                m = self.state[p]["exp_avg"]
                moments.move(p, self.diagonals[name].apply(m, self.damping, self.floor))

    def state_dict(self) -> dict:
        state = super().state_dict()
        state["curvature"] = {
            "steps": self.steps,
            "passes": self.passes,
            "damping": self.damping,
            "failures": dict(self.failures),
            "blocks": {name: block.state() for name, block in self.blocks.items()},
            "diagonals": {name: d.mean for name, d in self.diagonals.items()},
        }
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        state = dict(state_dict)
        own = state.pop("curvature", None)
        if own is None:
            raise ValueError(
                f"{type(self).__name__}: the checkpoint holds no curvature, it was written with "
                "curvature=none."
            )
        super().load_state_dict(state)
        self.steps, self.passes, self.damping = own["steps"], own["passes"], own["damping"]
        self.failures = dict(own["failures"])
        for name in [n for n in self.blocks if n not in own["blocks"]]:
            self._to_diagonal(name)
        for name, block in self.blocks.items():
            block.load(own["blocks"][name])
        for name, diagonal in self.diagonals.items():
            diagonal.mean.copy_(own["diagonals"][name])


def average_over_processes(tensors: list[Tensor]) -> None:
    """In one message."""
    if not tensors or not dist.is_initialized() or dist.get_world_size() == 1:
        return
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for t, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        t.copy_(part.view_as(t))
