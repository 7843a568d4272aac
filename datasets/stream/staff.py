"""An engine whose lanes are divided among clients."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from datasets.stream import messages
from datasets.stream.engine import Effort, Plan
from datasets.stream.events import Assignment, Event, Failed


class Client(Protocol):
    """Somebody elsewhere who computes lanes. `arrived` are events by lane that were not taken yet;
    one that is not `alive` can be started again.
    """

    arrived: Mapping[int, deque[Event]]
    alive: bool

    def start(self, plan: Plan) -> None: ...

    def receive(self) -> Failed | None:
        """Wait for what it has to say and put that in its place; `Failed` if it is lost."""
        ...

    def tell(self, kind: bytes, lane: int, assignments: Sequence[Assignment]) -> None:
        """An order of `messages.orders`."""
        ...

    @property
    def effort(self) -> Effort: ...


class Staff(ABC):
    """What engines with clients share: client w of n has lanes w, w + n, ... (`Plan.share`)."""

    def __init__(self):
        self._staff: list[Any] = []  # of `Client`
        self._before, self.waited = Effort(), 0.0

    def take(self, lane: int | None) -> Event:
        if lane is None:
            return self._take_any()
        client = self._of(lane)
        while not client.arrived[lane]:
            if (failed := client.receive()) is not None:
                return failed
        return client.arrived[lane].popleft()

    @abstractmethod
    def _take_any(self) -> Event:
        """The next event of any lane; waits for it."""

    def _arrived(self) -> Event | None:
        """One that waits to be taken."""
        queues = (queue for client in self._staff for queue in client.arrived.values() if queue)
        queue = next(queues, None)
        return None if queue is None else queue.popleft()

    def assign(self, lane: int, assignment: Assignment) -> None:
        self._of(lane).tell(messages.ASSIGN, lane, [assignment])

    def reassign(self, lane: int, assignments: Sequence[Assignment]) -> None:
        self._of(lane).tell(messages.REASSIGN, lane, assignments)

    def revive(self, plan: Plan) -> None:
        for client in self._staff:
            if not client.alive:
                client.start(plan)

    def effort(self) -> Effort:
        all_of_them = [self._before, *(client.effort for client in self._staff)]
        return Effort(sum(e.busy for e in all_of_them), sum(e.idle for e in all_of_them))

    def _of(self, lane: int) -> Any:
        return self._staff[lane % len(self._staff)]
