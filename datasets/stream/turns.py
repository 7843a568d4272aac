"""What a worker does next."""

from collections.abc import Callable, Mapping, Sequence

from datasets.stream import messages
from datasets.stream.crew import Crew
from datasets.stream.events import Assignment, Event, Failed
from datasets.stream.rota import Rota
from datasets.stream.study import Study


class Turns:
    """The events of some lanes of a study, computed in this process in the order of their rota.

    After a failure nothing is computed, in any lane, until the lane is reassigned: what comes next
    follows from the events and the orders so far, and not from the time.
    `begin` is called with lane, simulation and number before a frame is computed. `over` says that
    all lanes are done.
    """

    def __init__(
        self,
        study: Study,
        assignments: Mapping[int, Sequence[Assignment]],
        position: tuple[int, int],
        begin: Callable[[int, int, int], None],
    ):
        self._study, self._crew = study, Crew(study, begin)
        self._rota = Rota(study, assignments, position)
        self._last: dict[int, int] = {}
        self._awaited: int | None = None  # the lane that failed and is not reassigned yet
        self.over = False
        for lane, some in assignments.items():
            self._reassign(lane, some)

    def next(self) -> Event | None:
        """The next event; None while there is nothing to do before the next order."""
        while self._awaited is None and (lane := self._rota.turn()) is not None:
            if not self._crew.waits(lane):
                event, over = self._crew.step(lane)
                if isinstance(event, Failed):
                    self._awaited = lane
                elif over:
                    self._rota.next()
                return event
            if self._study.after(self._last[lane]) is not None:
                return None
            self._rota.finish(lane)
        self.over = self._awaited is None
        return None

    def place(self) -> tuple[int, int, int] | None:
        """Lane, simulation and frame that come next, None if that depends on the next order."""
        lane = self._rota.turn() if self._awaited is None else None
        return None if lane is None or self._crew.waits(lane) else self._crew.place(lane)

    def obey(self, message: bytes) -> None:
        """An order of `messages.orders`."""
        lane, assignments = messages.orders_of(message)
        if message[:1] == messages.REASSIGN:
            self._awaited = None
            self._reassign(lane, assignments)
        else:
            self._last[lane] = assignments[-1].simulation
            for assignment in assignments:
                self._crew.assign(lane, assignment)

    def _reassign(self, lane: int, assignments: Sequence[Assignment]) -> None:
        self._crew.reassign(lane, list(assignments))
        if assignments:
            self._last[lane] = assignments[-1].simulation
        else:
            self._rota.finish(lane)
