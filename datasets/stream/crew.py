"""Simulations of some lanes, computed in this process."""

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from datasets.stream.events import Assignment, Ended, Event, Failed, Frame
from datasets.stream.faults import injected
from datasets.stream.study import Study


def _nothing(lane: int, simulation: int, number: int) -> None:
    pass


class Crew:
    """Computes what is assigned to its lanes, one frame at a time, with one thread.

    Every frame is inspected: its shape, that its numbers are finite and not too large, and how many
    there are.
    `begin` is called with lane, simulation and number before a frame is computed.
    """

    def __init__(self, study: Study, begin: Callable[[int, int, int], None] = _nothing):
        self.study, self.begin = study, begin
        self.recipe, self.metadata = study.make()
        self._assigned: dict[int, deque[Assignment]] = {}
        self._running: dict[int, _Running] = {}

    def assign(self, lane: int, assignment: Assignment) -> None:
        """After what the lane was assigned before."""
        self._assigned.setdefault(lane, deque()).append(assignment)

    def reassign(self, lane: int, assignments: list[Assignment]) -> None:
        """Instead of what the lane was assigned before."""
        self._running.pop(lane, None)
        self._assigned[lane] = deque(assignments)

    def waits(self, lane: int) -> bool:
        """Whether the lane has nothing to do until it is assigned something."""
        return lane not in self._running and not self._assigned.get(lane)

    def place(self, lane: int) -> tuple[int, int, int]:
        """Lane, simulation and frame that a lane that does not wait computes next."""
        if (running := self._running.get(lane)) is not None:
            assignment, number = running.assignment, running.number
        else:
            assignment, number = self._assigned[lane][0], 0
        return lane, assignment.simulation, max(number, assignment.live)

    def step(self, lane: int) -> tuple[Event, bool]:
        """The next event of a lane that does not wait, and whether it ends the lane's turn."""
        running = self._current(lane)
        assignment = running.assignment
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the last bits of a sum depend on the number of threads
        try:
            frame = running.next()
        except StopIteration:
            del self._running[lane]
            return Ended(lane, assignment.simulation), False
        except Exception as error:  # whatever a client raises, the study goes on without it
            del self._running[lane]
            reason = f"{type(error).__name__}: {error}"
            return Failed(lane, assignment.simulation, running.number, reason), False
        finally:
            torch.set_num_threads(threads)
        return frame, frame.number >= assignment.live

    def _current(self, lane: int) -> "_Running":
        if lane not in self._running:
            self._running[lane] = _Running(self, lane, self._assigned[lane].popleft())
        return self._running[lane]


class _Running:
    """One simulation under way."""

    def __init__(self, crew: Crew, lane: int, assignment: Assignment):
        self.crew, self.lane, self.assignment = crew, lane, assignment
        self.number = 0
        self._frames: Iterator[Tensor] | None = None

    def next(self) -> Frame:
        """The next frame that is to be sent; StopIteration after the last one."""
        if self._frames is None:
            self.crew.begin(self.lane, self.assignment.simulation, 0)
            self._begin()
        while True:
            self.crew.begin(self.lane, self.assignment.simulation, self.number)
            try:
                u = next(self._frames)
            except StopIteration:
                self._require_all()
                raise
            self._inspect(u)
            number, self.number = self.number, self.number + 1
            if number >= self.assignment.first:
                return self._frame(number, u)

    def _begin(self) -> None:
        study, assignment = self.crew.study, self.assignment
        generator = study.generator(assignment.simulation)
        self.head = self.crew.recipe.simulate(generator, study.shape, assignment.given)
        self._frames = injected(self.head.frames, study.faults, assignment)

    def _frame(self, number: int, u: Tensor) -> Frame:
        first, simulation = number == self.assignment.first, self.assignment.simulation
        constants = self.head.constants.numpy() if first else None
        parameters = self._parameters() if first else None
        return Frame(self.lane, simulation, number, u.numpy(), constants, parameters)

    def _parameters(self) -> np.ndarray:
        """In the order of the metadata; refused where a name is missing."""
        found, names = self.head.parameters, self.crew.metadata.parameters
        if set(found) != set(names):
            raise ValueError(f"gave the parameters {sorted(found)}, expected {sorted(names)}.")
        return np.array([found[name] for name in names], dtype=np.float64)

    def _inspect(self, u: Tensor) -> None:
        meta = self.crew.metadata
        expected = (meta.out_channels, *meta.grid.shape)
        if self.number >= self.crew.study.frames:
            raise ValueError(f"gave more than the {self.crew.study.frames} frames it should.")
        if tuple(u.shape) != expected or u.dtype != torch.float32:
            raise ValueError(
                f"frame {self.number} is {u.dtype} {tuple(u.shape)}, expected float32 {expected}."
            )
        largest = float(u.abs().amax())  # NaN if there is one
        if not largest <= self.crew.study.largest:
            raise ValueError(
                f"frame {self.number} holds {largest:.3g}, at most {self.crew.study.largest:g} is "
                "taken for a solution."
            )

    def _require_all(self) -> None:
        if self.number != self.crew.study.frames:
            raise ValueError(
                f"gave {self.number} frames and ended, expected {self.crew.study.frames}."
            )
