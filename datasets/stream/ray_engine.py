"""Simulations computed by actors of Ray, on this machine or on many."""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from datasets.stream import messages
from datasets.stream.engine import Effort, Plan
from datasets.stream.events import Assignment, Event, Failed
from datasets.stream.ray_session import RaySession
from datasets.stream.ray_solver import Answer, RaySolver
from datasets.stream.staff import Staff
from datasets.stream.study import Study

FIRST_PATIENCE = 120.0  # seconds that an actor may take to begin
AT_ONCE = 0.2  # seconds of computing in one answer
ANSWER = 10.0  # seconds that an actor may take to say where it is


class Ray(Staff):
    """`workers` actors of one CPU each, computing lanes w, w + workers, ... of a study.

    Without `address` Ray is started here and ended by `close`. With the address of a cluster
    actors are spread over its nodes, which need this checkout at the same path and the same
    packages. A process that had another session of Ray before cannot use a cluster: its actors
    are refused.

    An actor computes what it was asked for: never more than `ahead` of its frames are asked for,
    on their way, or not yet released, so solvers that are faster than the training are held back
    and no frame is dropped. An actor that is gone, with its node or alone, or computes longer than
    `patience` seconds at one frame, is replaced by one that begins with what it had not handed
    over; that one takes any node, also one without a free CPU.

    An actor that was lost while it computed several frames at once is said to have failed at the
    first of them. Its successors send frames singly, and the next failure is located exactly.
    """

    def __init__(
        self,
        workers: int = 2,
        ahead: int = 16,
        patience: float = 60.0,
        address: str | None = None,
    ):
        if workers < 1 or ahead < 1 or not patience > 0:
            raise ValueError(
                f"workers={workers} and ahead={ahead} must be at least 1, patience={patience} "
                "seconds more than 0."
            )
        super().__init__()
        self.workers, self.ahead, self.patience = workers, ahead, patience
        self.address = address
        self._session: RaySession | None = None

    def start(self, study: Study, plan: Plan) -> None:
        self._study, (_, meta) = study, study.make()
        workers = min(self.workers, study.lanes)
        frame = 4 * (meta.in_channels + meta.out_channels) * math.prod(meta.grid.shape)
        self._session = RaySession(workers, 2 * workers * self.ahead * frame, self.address)
        self._ray = self._session.ray
        self._staff = [_Client(self, number) for number in range(workers)]
        for client in self._staff:
            client.start(plan)

    def close(self) -> None:
        self._before = self.effort()
        for client in self._staff:
            client.end()
        self._staff = []
        if self._session is not None:
            self._session.close()
            self._session = None

    def pids(self) -> list[int]:
        """Of the actors that run, if they run on this machine."""
        if self._session is None or not self._session.local:
            return []
        return [client.pid for client in self._staff if client.alive and client.pid is not None]

    def outstanding(self) -> list[int]:
        """Frames of each actor that are asked for, on their way, or not yet released."""
        return [client.outstanding for client in self._staff]

    def _take_any(self) -> Event:
        while True:
            if (event := self._arrived()) is not None:
                return event
            for client in self._staff:
                client.ask()
            asked = [client.asked[0][0] for client in self._staff if client.asked]
            begin = time.monotonic()
            ready, _ = self._ray.wait(asked, timeout=min(1.0, self.patience), fetch_local=True)
            self.waited += time.monotonic() - begin
            for client in self._staff:
                due = bool(client.asked) and client.asked[0][0] in ready
                if (due or client.overdue()) and (failed := client.receive()) is not None:
                    return failed


class _Client:
    """One actor, seen from the training."""

    def __init__(self, engine: Ray, number: int):
        self._engine, self._number = engine, number
        self._ray = engine._ray
        self.alive, self._careful = False, False
        self.effort, self._past = Effort(), Effort()
        self._generation = 0

    def start(self, plan: Plan) -> None:
        mine = plan.share(self._number, len(self._engine._staff))
        self._place = mine.place(self._engine._study)
        self.arrived: dict[int, deque[Event]] = {lane: deque() for lane in mine.assignments}
        self.asked: deque[tuple[Any, int]] = deque()  # answers to come, and frames in each
        self.outstanding = self._orders = 0
        self._dry = False  # it can do nothing before the next order
        self._begun = False
        self._heard = time.monotonic()
        self._past = Effort(self.effort.busy, self.effort.idle)
        options = {"max_restarts": 0, "scheduling_strategy": "SPREAD"}
        if not self._generation:
            options["num_cpus"] = 1  # a successor asks for none, there may be fewer nodes
        kind = self._ray.remote(concurrency_groups={"watch": 1}, **options)(RaySolver)
        text = messages.plan_to_json(mine.assignments, mine.position)
        self._actor = kind.remote(self._engine._study.to_json(), text)
        self._generation += 1
        self._pid_answer, self.pid = self._actor.pid.remote(), None
        self.alive = True
        self.ask()

    def tell(self, kind: bytes, lane: int, assignments: Sequence[Assignment]) -> None:
        """If it is gone, it will be told by the plan it begins again with."""
        if not self.alive:
            return
        if self._dry and assignments:
            self._place = lane, assignments[0].simulation, assignments[0].live
        self._orders += 1
        self._dry = False
        self._actor.order.remote(messages.orders(kind, lane, assignments))
        self.ask()

    def ask(self) -> None:
        """For as many frames as it may be ahead."""
        if not self.alive or self._dry:
            return
        count = 1 if self._careful else max(1, self._engine.ahead // 4)
        while self.outstanding + count <= self._engine.ahead:
            if not self.asked:
                self._heard = time.monotonic()
            self.outstanding += count
            seconds = min(AT_ONCE, self._engine.patience / 2)
            self.asked.append((self._actor.turns.remote(count, seconds), count))

    def receive(self) -> Failed | None:
        """Wait for one answer and put it in its place; `Failed` if the actor is lost."""
        self.ask()
        begin = 0.0
        while True:
            if not self.asked:
                raise RuntimeError(f"actor {self._number} was not asked for what is wanted of it.")
            answer, count = self.asked[0]
            wait = min(1.0, self._engine.patience) if begin else 0
            if self._ray.wait([answer], timeout=wait, fetch_local=True)[0]:
                break
            begin = begin or time.monotonic()
            if self.overdue() and (failed := self._stuck()) is not None:
                return failed
        if begin:
            self._engine.waited += time.monotonic() - begin
        try:
            found = Answer(*self._ray.get(answer))
            if not self._begun:
                self.pid, self._begun = self._ray.get(self._pid_answer), True
        except self._ray.exceptions.RayError as error:
            return self._lost(f"its actor is gone: {_reason(error)}")
        self.asked.popleft()
        self._heard = time.monotonic()
        self.effort = Effort(self._past.busy + found.busy, self._past.idle + found.idle)
        self._put(found.reports, count)
        self._place = found.place or self._place
        self._dry = not found.reports and found.orders == self._orders
        self.ask()
        return None

    def overdue(self) -> bool:
        limit = self._engine.patience if self._begun else max(FIRST_PATIENCE, self._engine.patience)
        return bool(self.asked) and time.monotonic() - self._heard > limit

    def end(self) -> None:
        if self.alive:
            self._ray.kill(self._actor, no_restart=True)
            self.alive = False
            # Not kept beyond the session: actors of the next one have the same numbers.
            self._actor = self._pid_answer = None
            self.asked.clear()
            self.arrived = {lane: deque() for lane in self.arrived}

    def _put(self, reports: Sequence, count: int) -> None:
        """Events into their lanes; what is not a frame costs nothing."""
        frames = 0
        for message, arrays in reports:
            frame = message[:1] == messages.FRAME
            frames += frame
            event = messages.event_of(message, arrays, self._releaser(self._generation))
            self.arrived[event.lane].append(event)
        self.outstanding -= count - frames

    def _releaser(self, generation: int) -> Callable[[], None]:
        def release() -> None:
            if generation == self._generation:
                self.outstanding -= 1
                self.ask()

        return release

    def _stuck(self) -> Failed | None:
        """`Failed` if it does not say that it is at work."""
        patience = self._engine.patience
        if not self._begun:
            return self._lost(
                f"its actor did not begin within {max(FIRST_PATIENCE, patience):g} s; the cluster "
                f"needs a free CPU for each of online.engine.workers={self._engine.workers}"
            )
        where = self._actor.where.options(concurrency_group="watch").remote()
        reason = f"gave no frame for {patience:g} s"
        if not self._ray.wait([where], timeout=ANSWER)[0]:
            return self._lost(reason)
        try:
            place, seconds = self._ray.get(where)
        except self._ray.exceptions.RayError as error:
            return self._lost(f"its actor is gone: {_reason(error)}")
        if seconds <= patience:
            self._heard = time.monotonic() - seconds
            return None
        self._place = place
        return self._lost(reason)

    def _lost(self, reason: str) -> Failed:
        self.end()
        self._careful = True
        return Failed(*self._place, reason, lost=True)


def _reason(error: Exception) -> str:
    """The first lines of what Ray says, which may be pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:500]
