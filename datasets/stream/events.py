"""What a lane reports."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Assignment:
    """A lane is to compute `simulation`: frames before `first` are computed and kept to itself,
    those before `live` come without a turn of their own. `given` are parameters that replace the
    drawn ones, `attempt` counts from 0.
    """

    simulation: int
    first: int = 0
    live: int = 0
    attempt: int = 0
    given: dict[str, float] | None = None


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Frame:
    """Frame `number` of a simulation: the state [c, *space]; with the first one that is sent also
    the constant fields [c, *space] and the parameters [p]. The arrays belong to the sender and are
    good until `release` is called.
    """

    lane: int
    simulation: int
    number: int
    state: np.ndarray
    constants: np.ndarray | None = None
    parameters: np.ndarray | None = None
    release: Callable[[], None] = field(default=_nothing, compare=False)


@dataclass(frozen=True)
class Ended:
    """A simulation has given all its frames."""

    lane: int
    simulation: int


@dataclass(frozen=True)
class Failed:
    """A simulation failed at frame `number`, with the client's own words. `lost` if the process
    that computed it is gone, and all that it had in work.
    """

    lane: int
    simulation: int
    number: int
    reason: str
    lost: bool = False


Event = Frame | Ended | Failed
