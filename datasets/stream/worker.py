"""A process that computes some lanes of a study."""

import time
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import RawArray

import numpy as np

from datasets.stream import messages
from datasets.stream.events import Event, Frame
from datasets.stream.slots import Slots
from datasets.stream.study import Study
from datasets.stream.turns import Turns
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
        self._turns = Turns(study, *messages.plan_from_json(plan), self._begin)
        status[COMPUTING] = 0

    def run(self) -> None:
        while not self._stopped:
            if self._connection.poll():
                self._listen()
                continue
            event = self._turns.next()
            self._pause()
            if event is not None:
                self._report(event)
            elif self._turns.over:
                self._listen()  # its frames may still lie in the slots
            else:
                self._wait()

    def _report(self, event: Event) -> None:
        slot = 0
        if isinstance(event, Frame):
            while not self._free and not self._stopped:
                self._wait()
            if self._stopped:
                return
            slot = self._free.popleft()
            self._write(event, slot)
        self._connection.send_bytes(messages.report(event, slot))

    def _write(self, frame: Frame, slot: int) -> None:
        state, constants, parameters = self._views[slot]
        state[...] = frame.state
        if frame.parameters is not None:
            constants[...] = frame.constants
            parameters[...] = frame.parameters

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
        if message[:1] == messages.CREDITS:
            self._free.extend(messages.slots_of(message))
        elif message[:1] == messages.STOP:
            self._stopped = True
        else:
            self._turns.obey(message)
