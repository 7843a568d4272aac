"""Simulations computed by the process that trains, when their frames are asked for."""

import time
from collections.abc import Sequence

from datasets.stream.crew import Crew
from datasets.stream.engine import Effort, Plan
from datasets.stream.events import Assignment, Event
from datasets.stream.rota import Rota
from datasets.stream.study import Study


class Inproc:
    """The engine without processes, for tests, debugging and machines with one core.

    A client that hangs hangs the run.
    """

    def __init__(self):
        self._effort, self.waited = Effort(), 0.0

    def start(self, study: Study, plan: Plan) -> None:
        self._crew = Crew(study)
        for lane, assignments in plan.assignments.items():
            self._crew.reassign(lane, list(assignments))
        self._rota = Rota(study, plan.assignments, plan.position)

    def take(self, lane: int | None) -> Event:
        if lane is None:
            lane = self._any()
        begin = time.monotonic()
        event, over = self._crew.step(lane)
        seconds = time.monotonic() - begin
        self._effort.busy += seconds
        self.waited += seconds
        if over and lane == self._rota.lane:
            self._rota.next()
        return event

    def assign(self, lane: int, assignment: Assignment) -> None:
        self._crew.assign(lane, assignment)

    def reassign(self, lane: int, assignments: Sequence[Assignment]) -> None:
        self._crew.reassign(lane, list(assignments))

    def revive(self, plan: Plan) -> None:
        """Nothing is ever lost."""

    def effort(self) -> Effort:
        return self._effort

    def close(self) -> None:
        pass

    def _any(self) -> int:
        """The next lane that has work."""
        while True:
            lane = self._rota.turn()
            if lane is None:
                raise ValueError("no lane has work left.")
            if not self._crew.waits(lane):
                return lane
            self._rota.finish(lane)
