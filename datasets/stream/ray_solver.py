"""What computes lanes of a study on a Ray cluster."""

import os
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from datasets.stream import messages
from datasets.stream.events import Event, Frame
from datasets.stream.study import Study
from datasets.stream.turns import Turns

Report = tuple[bytes, Sequence[np.ndarray | None]]  # of `messages.report`, and a frame's arrays


class Answer(NamedTuple):
    """What a solver has done, `place` where it goes on (`Turns.place`), how many `orders` it has
    had, and seconds in all that it computed and waited to be asked.
    """

    reports: list[Report]
    place: tuple[int, int, int] | None
    orders: int
    busy: float
    idle: float


class RaySolver:
    """An actor: the turns of some lanes, computed when they are asked for and no further.

    Everything that it is told and says is plain: text, bytes, numbers and arrays.
    """

    def __init__(self, study: str, plan: str):
        torch.set_num_threads(1)
        self._turns = Turns(Study.from_json(study), *messages.plan_from_json(plan), self._begin)
        self._orders = 0
        self._place, self._begun = (0, 0, 0), 0.0  # 0 while nothing is computed
        self._busy = self._idle = 0.0
        self._left = time.monotonic()

    def pid(self) -> int:
        return os.getpid()

    def order(self, message: bytes) -> None:
        self._orders += 1
        self._turns.obey(message)

    def turns(self, count: int, seconds: float) -> tuple:
        """An `Answer` with up to `count` events, fewer when `seconds` have passed or the next order
        is needed.
        """
        begin = time.monotonic()
        if not self._turns.over:
            self._idle += begin - self._left
        reports: list[Report] = []
        while len(reports) < count and (not reports or time.monotonic() - begin < seconds):
            event = self._turns.next()
            self._pause()
            if event is None:
                break
            reports.append((messages.report(event), _arrays(event)))
        self._left = time.monotonic()
        return tuple(Answer(reports, self._turns.place(), self._orders, self._busy, self._idle))

    def where(self) -> tuple[tuple[int, int, int], float]:
        """Lane, simulation and frame that it is at, and for how many seconds. Answered by a thread
        of its own.
        """
        begun = self._begun
        return self._place, time.monotonic() - begun if begun else 0.0

    def _begin(self, lane: int, simulation: int, number: int) -> None:
        self._pause()
        self._place, self._begun = (lane, simulation, number), time.monotonic()

    def _pause(self) -> None:
        if self._begun:
            self._busy += time.monotonic() - self._begun
            self._begun = 0.0


def _arrays(event: Event) -> Sequence[np.ndarray | None]:
    """Copies: a solver may go on in the same memory."""
    if not isinstance(event, Frame):
        return ()
    parts = (event.state, event.constants, event.parameters)
    return tuple(None if part is None else np.array(part) for part in parts)
