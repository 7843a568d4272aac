"""Where simulations are computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from datasets.stream.events import Assignment, Event
from datasets.stream.rota import Rota
from datasets.stream.study import Study


@dataclass(frozen=True)
class Plan:
    """What lies before each lane, and whose turn it is: enough to begin, or to begin again."""

    assignments: Mapping[int, Sequence[Assignment]]
    position: tuple[int, int] = (0, 0)

    def share(self, number: int, staff: int) -> "Plan":
        """What worker `number` of `staff` has to do: lanes number, number + staff ..."""
        mine = {lane: some for lane, some in self.assignments.items() if lane % staff == number}
        return Plan(mine, self.position)

    def place(self, study: Study) -> tuple[int, int, int]:
        """Lane, simulation and frame whose turn is the first; zeros if nothing is left."""
        rota = Rota(study, [lane for lane, some in self.assignments.items() if some], self.position)
        if (lane := rota.turn()) is None:
            return 0, 0, 0
        return lane, self.assignments[lane][0].simulation, self.assignments[lane][0].live


@dataclass
class Effort:
    """Seconds that the solvers computed, and waited for their frames to be taken."""

    busy: float = 0.0
    idle: float = 0.0


class Engine(Protocol):
    """Computes the lanes of a study and hands over what they report, each lane in order. `waited`
    are the seconds in which `take` had nothing to hand over.

    A lane whose simulation failed does nothing until it is reassigned. After an event that is
    `lost` the engine wants to be revived with a plan of what is still to be done.
    """

    waited: float

    def start(self, study: Study, plan: Plan) -> None: ...

    def take(self, lane: int | None) -> Event:
        """The next event of a lane, or of any lane if None; waits for it."""
        ...

    def assign(self, lane: int, assignment: Assignment) -> None:
        """More for a lane, after what it has."""
        ...

    def reassign(self, lane: int, assignments: Sequence[Assignment]) -> None:
        """What a lane whose simulation failed is to do."""
        ...

    def revive(self, plan: Plan) -> None:
        """Make good what was lost."""
        ...

    def effort(self) -> Effort: ...

    def close(self) -> None:
        """End all work; harmless when done twice."""
        ...
