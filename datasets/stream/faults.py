"""Faults on purpose: clients that fail as real ones do."""

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.stream.events import Assignment

HANG = 3600.0


class Faults:
    """What goes wrong in a run, to see that it bears it; numbers of simulations in each list.

    `raises`, `nan`, `huge` (1e30), `wrong_shape`, `too_few`, `too_many`: in the middle of the
    simulation. `hang` stops there for good, `slow` makes every frame `delay` seconds longer.
    These happen in each of the first `attempts` attempts, so that a number below the retries of
    the run is a fault that passes. `kills` times a worker is killed (`Strikes`).
    """

    def __init__(
        self,
        *,
        raises: Sequence[int] = (),
        nan: Sequence[int] = (),
        huge: Sequence[int] = (),
        wrong_shape: Sequence[int] = (),
        too_few: Sequence[int] = (),
        too_many: Sequence[int] = (),
        hang: Sequence[int] = (),
        slow: Sequence[int] = (),
        delay: float = 0.1,
        attempts: int = 1_000_000,
        kills: int = 0,
    ):
        lists = {
            "raises": raises,
            "nan": nan,
            "huge": huge,
            "wrong_shape": wrong_shape,
            "too_few": too_few,
            "too_many": too_many,
            "hang": hang,
            "slow": slow,
        }
        self.plain = {name: list(numbers) for name, numbers in lists.items() if numbers}
        self.plain |= {"delay": delay, "attempts": attempts}
        self.kills = kills


class Strikes:
    """Kills a random worker of an engine (SIGKILL) at `kills` of `frames` arrivals, by `seed`;
    engines without processes of their own are spared.
    """

    def __init__(self, kills: int, frames: int, seed: int):
        self._random = np.random.default_rng([seed, kills])
        places = self._random.choice(frames, min(kills, frames), replace=False)
        self._places = set(places.tolist())

    def at(self, counted: int, engine: object) -> None:
        pids = getattr(engine, "pids", list)()
        if counted in self._places and pids:
            self._places.remove(counted)
            os.kill(int(self._random.choice(pids)), signal.SIGKILL)


def injected(
    frames: Iterator[Tensor], faults: Mapping[str, Any], assignment: Assignment
) -> Iterator[Tensor]:
    """The frames with the faults that the simulation is to have."""
    kinds = {
        kind
        for kind, numbers in faults.items()
        if isinstance(numbers, list) and assignment.simulation in numbers
    }
    if not kinds or assignment.attempt >= faults["attempts"]:
        return frames
    return _spoilt(frames, kinds, faults["delay"])


def _spoilt(frames: Iterator[Tensor], kinds: set[str], delay: float) -> Iterator[Tensor]:
    for number, u in enumerate(frames):
        if "slow" in kinds:
            time.sleep(delay)
        if number == 1:
            if "raises" in kinds:
                raise RuntimeError("a fault on purpose")
            if "hang" in kinds:
                time.sleep(HANG)
            if "too_few" in kinds:
                return
            if "nan" in kinds:
                u = torch.full_like(u, torch.nan)
            if "huge" in kinds:
                u = torch.full_like(u, 1e30)
            if "wrong_shape" in kinds:
                u = u[..., :-1]
        yield u
    while "too_many" in kinds:
        yield u
