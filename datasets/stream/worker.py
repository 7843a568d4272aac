"""A process that computes some lanes of a study."""

import time
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import RawArray

import numpy as np

from datasets.stream import messages
from datasets.stream.crew import Crew
from datasets.stream.events import Event, Failed, Frame
from datasets.stream.rota import Rota
from datasets.stream.slots import Slots
from datasets.stream.study import Study
from datasets.workers import prepare

# Cells of the status that a worker shares: where it is, whether and since when it computes, and
# seconds in all.
LANE, SIMULATION, NUMBER, COMPUTING, BEAT, BUSY, IDLE = range(7)
CELLS = 7


def work(connection: Connection, slots: Slots, status: RawArray, study: str, plan: str) -> None:
    """What a worker process runs until it is told to stop."""
    prepare()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # nobody listens any more
        Worker(connection, slots, np.frombuffer(status), Study.from_json(study), plan).run()


class Worker:
    """Takes the turns of its lanes in the order of the rota; a frame needs a free slot.

    What it is at, and since when, stands in `status`, where the parent can read it even after the
    process was killed.
    """

    def __init__(
        self, connection: Connection, slots: Slots, status: np.ndarray, study: Study, plan: str
    ):
        self._connection, self._views, self._status = connection, slots.views(), status
        self._free, self._stopped = deque(range(slots.count)), False
        self._awaited: int | None = None  # the lane that failed and is not reassigned yet
        self._study, self._crew = study, Crew(study, self._begin)
        lanes, position = messages.plan_from_json(plan)
        self._rota = Rota(study, lanes, position)
        self._last: dict[int, int] = {}
        status[COMPUTING] = 0
        for lane, assignments in lanes.items():
            self._reassign(lane, assignments)

    def run(self) -> None:
        while not self._stopped and (lane := self._rota.turn()) is not None:
            while self._connection.poll():
                self._listen()
            if not self._crew.waits(lane):
                self._take_turn(lane)
            elif self._study.after(self._last[lane]) is None:
                self._rota.finish(lane)
            else:
                self._wait()
        while not self._stopped:  # its frames may still lie in the slots
            self._listen()

    def _take_turn(self, lane: int) -> None:
        """Up to a frame that counts as a turn, or until there is something to wait for."""
        over = False
        while not (over or self._stopped or self._crew.waits(lane)):
            event, over = self._crew.step(lane)
            self._pause()
            self._report(event)
            if isinstance(event, Failed):
                return
        if over:
            self._rota.next()

    def _report(self, event: Event) -> None:
        if isinstance(event, Frame):
            while not self._free and not self._stopped:
                self._wait()
            if not self._stopped:
                self._send(event, self._free.popleft())
        elif isinstance(event, Failed):
            place = (event.lane, event.simulation, event.number)
            text = event.reason.encode()[: messages.MOST_TEXT]
            self._awaited = event.lane
            self._connection.send_bytes(messages.pack(messages.FAILED, *place) + text)
            while self._awaited is not None and not self._stopped:
                self._wait()
        else:
            message = messages.pack(messages.ENDED, event.lane, event.simulation, 0)
            self._connection.send_bytes(message)

    def _send(self, frame: Frame, slot: int) -> None:
        state, constants, parameters = self._views[slot]
        state[...] = frame.state
        head = frame.parameters is not None
        if head:
            constants[...] = frame.constants
            parameters[...] = frame.parameters
        place = (frame.lane, frame.simulation, frame.number)
        self._connection.send_bytes(messages.pack(messages.FRAME, *place, slot, head))

    def _begin(self, lane: int, simulation: int, number: int) -> None:
        """A frame is begun."""
        self._pause()
        self._status[[LANE, SIMULATION, NUMBER]] = lane, simulation, number
        self._status[BEAT] = time.monotonic()
        self._status[COMPUTING] = 1

    def _pause(self) -> None:
        """Nothing is computed from here on."""
        if self._status[COMPUTING]:
            self._status[COMPUTING] = 0
            self._status[BUSY] += time.monotonic() - self._status[BEAT]

    def _wait(self) -> None:
        begin = time.monotonic()
        self._listen()
        self._status[IDLE] += time.monotonic() - begin

    def _listen(self) -> None:
        """One message."""
        message = self._connection.recv_bytes()
        kind = message[:1]
        if kind == messages.CREDITS:
            self._free.extend(messages.slots_of(message))
        elif kind == messages.STOP:
            self._stopped = True
        else:
            lane, assignments = messages.orders_of(message)
            if kind == messages.REASSIGN:
                self._awaited = None
                self._reassign(lane, assignments)
            else:
                self._last[lane] = assignments[-1].simulation
                for assignment in assignments:
                    self._crew.assign(lane, assignment)

    def _reassign(self, lane: int, assignments: list) -> None:
        self._crew.reassign(lane, assignments)
        if assignments:
            self._last[lane] = assignments[-1].simulation
        else:
            self._rota.finish(lane)
