"""Recipes of solutions over time."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from datasets.recipe import Recipe, Solution, plain
from datasets.schema import Field, Metadata
from datasets.simulation import Simulation
from solvers.composed_states import as_state
from solvers.distributions import Distribution
from solvers.evolution import Evolution, Unstable
from solvers.grid import Grid
from solvers.initial_conditions import InitialCondition

MAX_POINTS = 2**18  # of the fields that are stepped together


@runtime_checkable
class SelfStarting(Protocol):
    """A stepper whose parameters say which state it begins with."""

    def start(self) -> Tensor:
        """[b, c, *space] in float64; b = 1 where all samples have the same."""


class EvolutionRecipe(Recipe):
    """A random initial state and `num_steps` steps of an equation from it, u_0, u_1, ...

    `initial` draws u_0 and `stepper` (a partial that takes the grid) advances it; where `initial`
    is None, u_0 is `stepper.start()`, a function of the parameters. `parameters` are drawn per
    sample and given to the stepper by name, as tensors [b]; so are `coefficients`, fields
    [b, c, *space] that do not change in time. `warm_up` steps are taken first and not kept. The
    equation is solved on a grid `refine` times finer, in float64, and brought to the one that is
    asked for: by means over cells, or at common points. `fields` are names, units and components
    of the state.

    Two checks refuse a sample, with what would help:

        accuracy    relative difference of a step and the same step in twice as many substeps, at
                    the first, middle and last frame; the largest is the `residual` of a sample
        tail        share of the energy in the highest third of the modes of the solver's grid, at
                    every frame, for equations that say so; None does not check

    Raise `version` when a change of the code changes the numbers.
    """

    def __init__(
        self,
        name: str,
        grid: Grid,
        initial: InitialCondition | None,
        stepper: partial[Evolution],
        *,
        fields: Sequence[Mapping[str, Any]],
        num_steps: int,
        version: int,
        provenance: Mapping[str, str],
        parameters: Mapping[str, Distribution] | None = None,
        coefficients: Mapping[str, InitialCondition] | None = None,
        warm_up: int = 0,
        refine: int = 1,
        accuracy: float = 1e-3,
        tail: float | None = 1e-4,
    ):
        if num_steps < 1 or warm_up < 0 or refine < 1:
            raise ValueError(
                f"num_steps={num_steps} and refine={refine} must be at least 1, warm_up={warm_up} "
                "at least 0."
            )
        self.name, self.grid, self.ndim = name, grid, grid.ndim
        self.initial, self._stepper = initial, stepper
        self.parameters, self.coefficients = dict(parameters or {}), dict(coefficients or {})
        self.fields = tuple(Field(**field) for field in fields)
        self.num_steps, self.warm_up, self.refine = num_steps, warm_up, refine
        self.accuracy, self.max_tail, self.provenance = accuracy, tail, dict(provenance)
        self.solver = {
            "name": stepper.func.__name__,
            "version": version,
            "parameters": {**plain(stepper.keywords), "refine": refine, "warm_up": warm_up},
        }

    def metadata(self, shape: Sequence[int]) -> Metadata:
        grid = self.grid.resized(shape)
        numbers, given = self._draw([torch.Generator().manual_seed(0)], grid)
        try:
            stepper = self._stepper_on(grid, numbers | given)
        except Unstable as error:
            raise ValueError(str(error)) from error
        components = sum(field.components for field in self.fields)
        if components != len(stepper.fields):
            raise ValueError(
                f"fields: {[f.name for f in self.fields]} have {components} components, the state "
                f"of {type(stepper).__name__} has {', '.join(stepper.fields)}."
            )
        if self.initial is None:
            _start(stepper)
        return Metadata(
            name=self.name,
            input_fields=tuple(Field(name, components=c.shape[1]) for name, c in given.items()),
            target_fields=self.fields,
            grid=grid,
            parameters=tuple(self.parameters),
            dt=stepper.dt,
            num_frames=1 + self.num_steps,
            provenance={**self.provenance, "solver": self.solver["name"]},
        )

    def solve(self, generators: Sequence[torch.Generator], shape: Sequence[int]) -> Solution:
        fine = self._fine(shape)
        size = max(1, MAX_POINTS // (math.prod(fine.shape) * len(self.fields)))
        parts = []
        for start in range(0, len(generators), size):
            some = generators[start : start + size]
            numbers, given = self._draw(some, fine)
            stepper = self._stepper_on(fine, numbers | given)
            kept, error = self._trajectory(stepper, self._begin(stepper, some), shape)
            given = {name: _plain(self._restrict(c, shape)) for name, c in given.items()}
            parts.append((self._split(kept) | given, error, numbers))
        fields, errors, numbers = zip(*parts, strict=True)
        return Solution(_joined(fields), torch.cat(errors), self.accuracy, _joined(numbers))

    def stepper(
        self, shape: Sequence[int], given: Mapping[str, Tensor], *, dt: float | None = None
    ) -> Evolution:
        """The equation on a grid of this shape, with the parameters and coefficients `given` by
        name; `dt` replaces the step of the recipe.
        """
        step = {} if dt is None else {"dt": dt}
        return self._stepper_on(self.grid.resized(shape), {**given, **step})

    def simulate(
        self,
        generator: torch.Generator,
        shape: Sequence[int],
        given: Mapping[str, float] | None = None,
    ) -> Simulation:
        fine = self._fine(shape)
        numbers, coefficients = self._draw([generator], fine)
        unknown = sorted(set(given or ()) - set(numbers))
        if unknown:
            raise ValueError(f"{self.name} has no parameters {unknown}; it has {sorted(numbers)}.")
        numbers |= {
            name: torch.tensor([x], dtype=torch.float64) for name, x in (given or {}).items()
        }
        stepper = self._stepper_on(fine, numbers | coefficients)
        u = self._begin(stepper, [generator])
        constants = [self._restrict(c, shape)[0] for c in coefficients.values()]
        return Simulation(
            {name: float(x) for name, x in numbers.items()},
            torch.cat(constants or [u.new_empty(0, *shape)]).float(),
            (frame[0] for frame, _ in self._frames(stepper, u, shape)),
        )

    def _trajectory(
        self, stepper: Evolution, u: Tensor, shape: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Frames [b, t, c, *shape] in float32 and the largest error of a step, [b]."""
        kept = u.new_empty(len(u), 1 + self.num_steps, u.shape[1], *shape, dtype=torch.float32)
        for number, (frame, so_far) in enumerate(self._frames(stepper, u, shape)):
            kept[:, number], error = frame, so_far
        return kept, error

    def _frames(
        self, stepper: Evolution, u: Tensor, shape: Sequence[int]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Frames [b, c, *shape] in float32, each with the largest error of a step so far, [b]."""
        for _ in range(self.warm_up):
            u = stepper(u)
        checked = {0, self.num_steps // 2, self.num_steps - 1}
        halved, error = stepper.halved(), u.new_zeros(len(u))
        for frame in range(1 + self.num_steps):
            self._require_resolved(stepper, u, frame)
            yield self._restrict(u, shape).float(), error
            if frame == self.num_steps:
                return
            after = stepper(u)
            if frame in checked and halved is not stepper:
                error = torch.maximum(error, _difference(after, halved(u)))
                self._require_accurate(stepper, error, frame)
            u = after

    def _require_resolved(self, stepper: Evolution, u: Tensor, frame: int) -> None:
        share = stepper.tail(u).flatten(1).amax(dim=1)
        if self.max_tail is not None and not (share <= self.max_tail).all():
            raise ValueError(
                f"{float(share.max()):.1e} of the energy of frame {frame} lies in the highest "
                f"third of the modes, {self.max_tail:g} are allowed: the grid "
                f"{' x '.join(map(str, stepper.grid.shape))} is too coarse. Raise resolution or "
                "refine, or smooth the problem."
            )

    def _require_accurate(self, stepper: Evolution, error: Tensor, frame: int) -> None:
        if not (error <= self.accuracy).all():
            raise ValueError(
                f"step {frame + 1} of dt={stepper.dt:g} changes by {float(error.max()):.1e} when "
                f"it is taken in half steps, {self.accuracy:g} are allowed. Raise the substeps of "
                f"{type(stepper).__name__}, or lower dt."
            )

    def _begin(self, stepper: Evolution, generators: Sequence[torch.Generator]) -> Tensor:
        if self.initial is not None:
            return as_state(self.initial, generators, stepper.grid)
        u = _start(stepper)
        return u.expand(len(generators), *u.shape[1:])

    def _draw(
        self, generators: Sequence[torch.Generator], grid: Grid
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Parameters [b] and coefficients [b, c, *space] by name."""
        numbers = {name: each.sample(generators) for name, each in self.parameters.items()}
        given = {name: as_state(c, generators, grid) for name, c in self.coefficients.items()}
        return numbers, given

    def _fine(self, shape: Sequence[int]) -> Grid:
        sizes = []
        for axis, n in zip(self.grid.axes, shape, strict=True):
            last = int(axis.points == "nodes")
            sizes.append((n - last) * self.refine + last)
        return self.grid.resized(sizes)

    def _restrict(self, u: Tensor, shape: Sequence[int]) -> Tensor:
        for dim, (axis, n) in enumerate(zip(self.grid.axes, shape, strict=True), start=2):
            if axis.points == "cells":
                u = u.unflatten(dim, (n, self.refine)).mean(dim=dim + 1)
            else:
                u = u.index_select(dim, torch.arange(n) * self.refine)
        return u

    def _split(self, u: Tensor) -> dict[str, Tensor]:
        """Components [b, t, c, *space] -> fields; those of one component have no axis for it."""
        widths = [field.components for field in self.fields]
        parts = u.split(widths, dim=2)
        return {
            field.name: part if field.components > 1 else part[:, :, 0]
            for field, part in zip(self.fields, parts, strict=True)
        }

    def _stepper_on(self, grid: Grid, parameters: Mapping[str, Any]) -> Evolution:
        try:
            return self._stepper(grid, **parameters)
        except TypeError as error:
            raise ValueError(f"stepper: {error}") from error


def _start(stepper: Evolution) -> Tensor:
    if not isinstance(stepper, SelfStarting):
        raise ValueError(
            f"initial=None: {type(stepper).__name__} has no start(), the state of its own that a "
            "trajectory begins with; give an initial condition."
        )
    return stepper.start()


def _plain(c: Tensor) -> Tensor:
    """A field of one component without an axis for it."""
    return c[:, 0] if c.shape[1] == 1 else c


def _joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _difference(u: Tensor, v: Tensor) -> Tensor:
    """||u - v|| / ||v|| of every sample, [b]."""
    return (u - v).flatten(1).norm(dim=1) / v.flatten(1).norm(dim=1).clamp_min(1e-300)
