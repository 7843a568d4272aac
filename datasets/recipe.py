"""Recipes: how a data set follows from parameters, a seed and the numbers of its samples."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from datasets.schema import SPLITS, Field, Metadata
from datasets.simulation import Simulation
from solvers.grid import Grid
from solvers.krylov import Info

MAX_SAMPLES = 2**30


def sample_generator(seed: int, split: str, index: int) -> torch.Generator:
    """The random numbers of one sample: a function of (seed, split, index) alone, not of the grid.

    torch's CPU generator keeps only the low 32 bits of a seed, so hashed 64-bit seeds would give
    two equal samples among 10^5 more often than not. Here index and split fill 32 bits, and the
    data set's seed permutes them: no two samples of a data set share a stream.
    """
    if not 0 <= index < MAX_SAMPLES:
        raise ValueError(f"sample {index}: a split holds samples 0 to {MAX_SAMPLES - 1}.")
    [key] = np.random.SeedSequence(seed).generate_state(1)
    return torch.Generator().manual_seed(int(key) ^ (SPLITS.index(split) << 30 | index))


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers and texts among the arguments of a solver; its parts are in the recipe."""
    return {k: v for k, v in settings.items() if isinstance(v, int | float | str)}


class Solution(NamedTuple):
    """b samples in double precision.

    fields, by name: scalar [b, *space] or [b, t, *space], vector [b, ndim, *space] or
    [b, t, ndim, *space]; residual [b] of the discrete equations, and the largest value of it that
    is worth keeping; parameters, by name: [b].
    """

    fields: Mapping[str, Tensor]
    residual: Tensor
    tolerance: float
    parameters: Mapping[str, Tensor]


class Recipe(ABC):
    """How samples come about.

    `solver` records name, version and parameters of what solves the equation, for the manifest.
    """

    name: str
    ndim: int
    solver: Mapping[str, Any]

    @abstractmethod
    def metadata(self, shape: Sequence[int]) -> Metadata:
        """What the samples on a grid of this shape are."""

    @abstractmethod
    def solve(self, generators: Sequence[torch.Generator], shape: Sequence[int]) -> Solution:
        """One sample per generator on a grid of this shape. Raises when one cannot be solved."""


class Problem(NamedTuple):
    """Training samples that are to be simulated: the configuration of a recipe, the grid, the seed,
    the number of samples, and the settings of `Windows`, None for a steady map.
    """

    recipe: Mapping[str, Any]
    shape: tuple[int, ...]
    seed: int
    count: int
    window: Mapping[str, Any] | None


@runtime_checkable
class Governed(Protocol):
    """A data set that knows the recipe, and so the equation, that its samples follow from; None
    where they were computed elsewhere.
    """

    def recipe(self) -> Recipe | None: ...


class RandomField(Protocol):
    """One field per generator, [b, *space]: the same generator, the same field on every grid."""

    def sample(self, generators: Sequence[torch.Generator], grid: Grid) -> Tensor: ...


class SteadySolver(Protocol):
    """a [b, 1, *space] -> u [b, c, *space] and residuals; raises unless every sample converges."""

    def solve(self, a: Tensor) -> tuple[Tensor, Info]: ...

    def residual(self, a: Tensor, u: Tensor) -> Tensor: ...


class SteadyRecipe(Recipe):
    """A random coefficient and the steady solution that belongs to it, psi -> a -> u.

    `random_field` draws psi, `coefficient` maps it to a, `solver` (a partial that takes the grid)
    solves for u. `grid` gives domain, boundary conditions and position of the points; its sizes
    give way to the resolution. `fields` are names and units of a and of each component of u.
    Raise `version` when a change of the code changes the numbers, so that old data are not taken
    for new. `provenance` is text for the report.
    """

    def __init__(
        self,
        name: str,
        grid: Grid,
        random_field: RandomField,
        coefficient: Callable[[Tensor], Tensor],
        solver: partial[SteadySolver],
        *,
        fields: Sequence[Mapping[str, str]],
        version: int,
        provenance: Mapping[str, str],
    ):
        if len(fields) < 2:
            raise ValueError(
                f"fields: expected that of the coefficient and those of the solution, got {fields}."
            )
        self.name, self.grid, self.ndim = name, grid, grid.ndim
        self.random_field, self.coefficient, self._solver = random_field, coefficient, solver
        self.input, *self.targets = (Field(**field) for field in fields)
        self.provenance = dict(provenance)
        self.solver = {
            "name": solver.func.__name__,
            "version": version,
            "parameters": plain(solver.keywords),
        }

    def metadata(self, shape: Sequence[int]) -> Metadata:
        """Raises ValueError when the solver takes other arguments or another kind of grid."""
        return Metadata(
            name=self.name,
            input_fields=(self.input,),
            target_fields=tuple(self.targets),
            grid=self._solver_on(shape)[0],
            provenance={**self.provenance, "solver": self.solver["name"]},
        )

    def solve(self, generators: Sequence[torch.Generator], shape: Sequence[int]) -> Solution:
        grid, solver = self._solver_on(shape)
        a = self.coefficient(self.random_field.sample(generators, grid))
        u, info = solver.solve(a.unsqueeze(1))
        if u.shape[1] != len(self.targets):
            raise ValueError(
                f"fields: {self.solver['name']} gives {u.shape[1]} components, named are "
                f"{[field.name for field in self.targets]}."
            )
        solution = {field.name: u[:, c] for c, field in enumerate(self.targets)}
        return Solution({self.input.name: a} | solution, info.residual, info.tolerance, {})

    def simulate(
        self,
        generator: torch.Generator,
        shape: Sequence[int],
        given: Mapping[str, float] | None = None,
    ) -> Simulation:
        """The coefficient, and the solution as the one frame there is."""
        if given:
            raise ValueError(f"{self.name} has no parameters, asked for were {sorted(given)}.")
        grid, solver = self._solver_on(shape)
        a = self.coefficient(self.random_field.sample([generator], grid))
        return Simulation({}, a.float(), self._solved(solver, a.unsqueeze(1)))

    def on(self, shape: Sequence[int]) -> SteadySolver:
        """The solver on a grid of this shape."""
        return self._solver_on(shape)[1]

    def _solved(self, solver: SteadySolver, a: Tensor) -> Iterator[Tensor]:
        u, info = solver.solve(a)
        if not (info.residual <= info.tolerance).all():
            raise ValueError(
                f"its residual {float(info.residual.max()):.1e} is above the tolerance "
                f"{info.tolerance:.1e}."
            )
        yield u[0].float()

    def _solver_on(self, shape: Sequence[int]) -> tuple[Grid, SteadySolver]:
        grid = self.grid.resized(shape)
        try:
            return grid, self._solver(grid)
        except TypeError as error:
            raise ValueError(f"solver: {error}") from error
