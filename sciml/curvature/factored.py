"""Curvature of a loss in blocks, one for each layer of a model that is known."""

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from sciml.curvature.axes import AxisKronecker
from sciml.curvature.capture import Capture, Fisher
from sciml.curvature.coverage import cover
from sciml.curvature.diagonal import Diagonal
from sciml.curvature.factors import CoreLayer
from sciml.curvature.finite import finite
from sciml.curvature.linear import Sharing
from sciml.curvature.pairs import layouts
from sciml.curvature.parameter_vector import real
from sciml.curvature.processes import average_over_processes, averaged
from sciml.curvature.tokens import Layer, Tokens
from sciml.gauss_newton import Expansion

log = logging.getLogger(__name__)
Objective = Callable[[int | None], Expansion]
Samples = int | Literal["auto"] | None
LEAST, INPUTS = 4, 128  # of samples; of what the layer with the fewest inputs per sample shall see
Moves = list[tuple[nn.Parameter, Tensor]]


class Block(Protocol):
    """Curvature of one layer, such as `Kronecker`."""

    def statistics(self, tokens: Tokens) -> list[Tensor]:
        """Real tensors whose mean over processes and time is kept."""

    def absorb(self, statistics: list[Tensor], weight: float) -> None:
        """Moving averages, the new values with that weight."""

    def refresh(self, damping: float, floor: float) -> int:
        """Makes `apply` follow the averages; the number of matrices that did not."""

    def apply(self, G: Tensor) -> Tensor:
        """The damped inverse times matrices in the order of the layer."""

    def state(self) -> dict[str, Tensor]:
        """Real tensors."""

    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""


class Factored:
    """The Gauss-Newton matrix of a loss as blocks, `geometry(layer)` for each layer that `cover`
    finds in `model`, with sides up to `block_size`, and a `Diagonal` for every other parameter.

    `observe` samples it in one more forward and backward pass over the first `samples` samples of
    the batch that `objective` knows (None: all; see `Capture` for `fisher`), outside of autocast,
    into moving averages that forget by `decay`; `refresh` makes new inverses; `apply` multiplies
    tensors with them. Statistics are averaged over processes of `torch.distributed`. What is not
    finite or has no inverse leaves that block as it was, is warned of by name the first time, and
    counted in `failures`.

    With `samples="auto"` the first pass takes four samples and counts: later ones take as many as
    give every layer 128 inputs, and no less than four. A layer that acts on all points of a grid
    has them from a single sample, the branch of a DeepONet has one input per sample and sees the
    whole batch. Complex layers, whose inputs are modes, are not counted: they do with few.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        geometry: Callable[[Layer], Block],
        *,
        damping: float,
        floor: float,
        decay: float,
        samples: Samples = None,
        fisher: Fisher = "monte_carlo",
        sharing: Sharing = "expand",
        exclude: Sequence[str] = (),
        block_size: int | None = None,
    ):
        self.model, self.objective = model, objective
        self.damping, self.floor, self.decay = damping, floor, decay
        self._to_count = samples == "auto"
        self.samples = LEAST if self._to_count else samples  # of the next pass
        self.fisher = fisher
        self.coverage = cover(model, sharing=sharing, exclude=exclude, block_size=block_size)
        if self.coverage.share < 0.5:
            first = next(iter(self.coverage.rest.items()), ("", ""))
            warnings.warn(
                f"curvature: {self.coverage.summary()}; the first of them {first[0]} ({first[1]}). "
                "Less than half: expect little beyond a diagonal method.",
                stacklevel=4,
            )
        if fisher == "empirical":
            warnings.warn(
                "curvature: the empirical Fisher matrix is not the Gauss-Newton matrix; it mixes "
                "samples in layers that serve all of them, such as trunks. It is for comparison.",
                stacklevel=4,
            )
        self.parameters = dict(model.named_parameters())
        self.diagonals = {name: Diagonal(self.parameters[name]) for name in self.coverage.rest}
        self.blocks: dict[str, Block] = {
            name: AxisKronecker(layer) if isinstance(layer, CoreLayer) else geometry(layer)
            for name, layer in self.coverage.layers.items()
        }
        self.passes = 0
        self.loss, self.least_loss = float("nan"), float("inf")  # of the last pass, of all
        self.failures: dict[str, int] = {}
        self._missed: dict[str, int] = {}  # passes before the first that a block could use

    @property
    def pairs(self) -> set[int]:
        """The parameters of which the last axis holds real and imaginary parts, by id."""
        return {key for key, layout in layouts(self.model).items() if layout.is_pair}

    @torch.no_grad()
    def observe(self) -> None:
        """One pass over the last batch that renews the factors."""
        modules = [m for layer in self.coverage.layers.values() for m in layer.watched]
        with torch.enable_grad(), torch.autocast(self._device_type(), enabled=False):
            with Capture(modules, self.model) as capture:
                expansion = self.objective(self.samples)
            self.loss = float(averaged(expansion.value.detach().clone()))
            if 0 < self.loss < self.least_loss:
                self.least_loss = self.loss
            if not self.passes:
                self._leave_uncalled(capture)
            rest = [self.parameters[name] for name in self.diagonals]
            found = self._gather(capture.gradients(expansion, self.fisher, rest))
        self._absorb(*found)

    def _gather(self, walks) -> tuple[dict[str, list[Tensor]], list[Tensor]]:
        """Statistics of the layers, and squares of the other gradients summed over the walks."""
        tokens: dict[str, list[Tokens]] = {name: [] for name in self.coverage.layers}
        squares: list[Tensor] = []
        for calls, gradients in walks:
            for name, layer in self.coverage.layers.items():
                seen = layer.seen(calls)
                if any(seen.values()):  # not in every pass, where a model has branches
                    tokens[name].append(layer.tokens(seen))
            new = [real(g).square() for g in gradients]
            squares = [a + b for a, b in zip(squares, new, strict=True)] if squares else new
        if self._to_count:
            self.samples, self._to_count = self._enough(tokens), False
        statistics = {
            n: self.blocks[n].statistics(type(found[0]).joined(found))
            for n, found in tokens.items()
            if found
        }
        return statistics, squares

    def _enough(self, tokens: dict[str, list[Tokens]]) -> int:
        """Samples that give each layer enough inputs, by what it had from those of this pass."""
        layers = self.coverage.layers
        seen = [
            found[0].a.shape[1]
            for n, found in tokens.items()
            if found and isinstance(found[0], Tokens) and not layers[n].is_complex
        ]
        return max(LEAST, -(-INPUTS * self.samples // min(seen))) if seen else LEAST

    def _absorb(self, statistics: dict[str, list[Tensor]], squares: list[Tensor]) -> None:
        tensors = [t for ts in statistics.values() for t in ts] + squares
        average_over_processes(tensors)
        self.passes += 1
        if self.passes == 1:
            self._missed.clear()
        for name in self.blocks:
            if name not in statistics:
                self._miss(name)
        is_finite = finite(tensors)
        for name, found in statistics.items():
            if all([next(is_finite) for _ in found]):
                self.blocks[name].absorb(found, self._weight(name))
            else:
                self._miss(name)
                self.failed(name, "its statistics are not finite; those of before stay")
        for (name, diagonal), square in zip(self.diagonals.items(), squares, strict=True):
            if next(is_finite):
                diagonal.absorb(square, self._weight(name))
            else:
                self._miss(name)
                self.failed(name, "its diagonal is not finite; that of before stays")

    def _miss(self, name: str) -> None:
        if self._missed.get(name, 0) == self.passes - 1:
            self._missed[name] = self.passes

    def _weight(self, name: str) -> float:
        """Of what a block absorbs now: the first pass that it can use takes the place of zeros."""
        return max(1 - self.decay, 1 / (self.passes - self._missed.get(name, 0)))

    def refresh(self) -> None:
        """Renew the inverses."""
        for name, block in self.blocks.items():
            if count := block.refresh(self.damping, self.floor):
                reason = f"{count} of its factors have no inverse; the last good ones stay"
                self.failed(name, reason)

    def failed(self, name: str, reason: str) -> None:
        """Something that has been left as it was."""
        self.failures[name] = self.failures.get(name, 0) + 1
        if self.failures[name] == 1:
            warnings.warn(f"curvature of {name}, pass {self.passes}: {reason}.", stacklevel=2)
        log.warning("curvature of %s, pass %d: %s", name, self.passes, reason)

    def _leave_uncalled(self, capture: Capture) -> None:
        """Layers whose modules were not called, but whose weights somebody reads, have no factors:
        their diagonal takes over.
        """
        for name, layer in list(self.coverage.layers.items()):
            if not any(map(capture.called, layer.watched)):
                self._to_diagonal(name)
                warnings.warn(
                    f"curvature: {name} is never called as a module, its diagonal takes over.",
                    stacklevel=2,
                )

    def _to_diagonal(self, name: str) -> None:
        names = {id(p): n for n, p in self.parameters.items()}
        for p in self.coverage.layers.pop(name).parameters:
            self.coverage.rest[names[id(p)]] = "its layer is never called"
            self.diagonals[names[id(p)]] = Diagonal(p)
        del self.blocks[name]

    def _device_type(self) -> str:
        return next(iter(self.parameters.values())).device.type

    def apply(self, tensors: Callable[[nn.Parameter], Tensor | None]) -> Moves:
        """Parameters, and the damped inverse times what `tensors` gives for each, in the shape of
        their real numbers. Layers with a parameter of which it gives None are left out, and named
        unless it gives None for all.
        """
        found = []
        for name, layer in self.coverage.layers.items():
            given = [tensors(p) for p in layer.parameters]
            if any(t is None for t in given):
                if any(t is not None for t in given):
                    self.failed(name, "a part of its parameters has no gradient; all of them stay")
                continue
            G = self.blocks[name].apply(layer.join(given))
            found += zip(layer.parameters, layer.split(G), strict=True)
        for name, diagonal in self.diagonals.items():
            p = self.parameters[name]
            if (given := tensors(p)) is not None:
                found.append((p, diagonal.apply(given, self.damping, self.floor)))
        return found

    def facts(self) -> dict:
        """Plain values: what has blocks, what has not and why, and what went wrong."""
        return {
            "share": self.coverage.share,
            "layers": {name: layer.kind for name, layer in self.coverage.layers.items()},
            "rest": dict(self.coverage.rest),
            "damping": self.damping,
            "samples": self.samples,
            "passes": self.passes,
            "failures": dict(self.failures),
        }

    def state(self) -> dict:
        return {
            "passes": self.passes,
            "missed": dict(self._missed),
            "loss": self.loss,
            "least_loss": self.least_loss,
            "samples": self.samples,
            "damping": self.damping,
            "failures": dict(self.failures),
            "blocks": {name: block.state() for name, block in self.blocks.items()},
            "diagonals": {name: diagonal.mean for name, diagonal in self.diagonals.items()},
        }

    def load(self, state: dict) -> None:
        self.passes, self.damping = state["passes"], state["damping"]
        self._missed = dict(state["missed"])
        self.loss, self.least_loss = state["loss"], state["least_loss"]
        self.samples, self._to_count = state["samples"], self._to_count and not self.passes
        self.failures = dict(state["failures"])
        for name in [n for n in self.blocks if n not in state["blocks"]]:
            self._to_diagonal(name)
        for kept, key in ((self.blocks, "blocks"), (self.diagonals, "diagonals")):
            if strange := kept.keys() ^ state[key].keys():
                raise ValueError(
                    f"curvature: the checkpoint has other {key}, of {', '.join(sorted(strange))}. "
                    "The model and `exclude` must be those that it was written with."
                )
        for name, block in self.blocks.items():
            try:
                block.load(state["blocks"][name])
            except RuntimeError as error:
                raise ValueError(
                    f"curvature of {name}: the checkpoint's does not fit ({error}). The model, "
                    "block_size and the other settings must be those that it was written with."
                ) from error
        for name, diagonal in self.diagonals.items():
            diagonal.mean.copy_(state["diagonals"][name])
