"""A solution over time while it is computed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from datasets.schema import Metadata


class Simulation(NamedTuple):
    """One solution over time as it is computed.

    `parameters` by name, `constants` the fields that do not change, float32 [c, *space], c may be
    0, and `frames` the state at t = 0, dt, 2 dt ..., float32 [c, *space] each.
    """

    parameters: Mapping[str, float]
    constants: Tensor
    frames: Iterator[Tensor]


@runtime_checkable
class Simulated(Protocol):
    """A recipe that can be followed while it is computed."""

    def metadata(self, shape: Sequence[int]) -> Metadata: ...

    def simulate(
        self,
        generator: torch.Generator,
        shape: Sequence[int],
        given: Mapping[str, float] | None = None,
    ) -> Simulation:
        """The sample of this generator. `given` replaces drawn parameters by name; all are drawn
        nevertheless, so that the other random numbers stay what they are.
        """
        ...
