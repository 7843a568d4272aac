"""What a solver from outside is asked for, and what it answers."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np


class SimulationError(ValueError):
    """A simulation failed or is not what was asked for; the message says what came instead."""


class Request(NamedTuple):
    """One simulation: `num_steps` + 1 frames at the times t = 0, dt, 2 dt ...

    `parameters` by name, `seed` of 63 bits for what else is random, `shape` the points per axis,
    `fields` the shape of each field in a frame by name and in order: [*space], or
    [components, *space] for a vector.
    """

    parameters: Mapping[str, float]
    seed: int
    shape: tuple[int, ...]
    num_steps: int
    dt: float
    fields: Mapping[str, tuple[int, ...]]


Frame = tuple[float, Mapping[str, np.ndarray]]  # the time, and the fields by name


class Solver(Protocol):
    """Computes frames one after another, each when it is asked for. `name` is for the manifest.

    A solver does not check what it yields; `SimulationRecipe` does. It raises `SimulationError`
    when it fails, and ends what it started when the iterator is closed.
    """

    name: str

    def __call__(self, request: Request) -> Iterator[Frame]: ...
