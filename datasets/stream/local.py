"""Simulations computed by processes of this machine."""

import multiprocessing
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import wait

import numpy as np

from datasets.stream import messages
from datasets.stream.engine import Effort, Plan
from datasets.stream.events import Assignment, Event, Failed
from datasets.stream.slots import Slots
from datasets.stream.staff import Staff
from datasets.stream.study import Study
from datasets.stream.worker import (
    BEAT,
    BUSY,
    CELLS,
    COMPUTING,
    IDLE,
    LANE,
    NUMBER,
    SIMULATION,
    work,
)
from datasets.workers import deaf_to_interrupts

CREDITS_AT_ONCE = 8
FIRST_PATIENCE = 120.0  # seconds that a process may take to begin


class Local(Staff):
    """`workers` processes, each with one thread, computing lanes w, w + workers, ... of a study.

    Frames come through `slots` places of shared memory per worker; a worker without a free one
    waits, so solvers that are faster than the training are held back and no frame is dropped. Each
    worker has a pipe of its own, and none shares a lock with another or with the training: one
    that is killed at any moment takes nothing with it. A worker that dies, or computes longer than
    `patience` seconds at one frame, is killed and started anew with what it had not handed over.
    """

    def __init__(self, workers: int = 1, slots: int = 32, patience: float = 60.0):
        if workers < 1 or slots < 1 or not patience > 0:
            raise ValueError(
                f"workers={workers} and slots={slots} must be at least 1, patience={patience} "
                "seconds more than 0."
            )
        super().__init__()
        self.workers, self.slots, self.patience = workers, slots, patience

    def start(self, study: Study, plan: Plan) -> None:
        self._study, (_, self._metadata) = study, study.make()
        self._staff = [_Client(self, number) for number in range(min(self.workers, study.lanes))]
        for client in self._staff:
            client.start(plan)

    def close(self) -> None:
        for client in self._staff:
            client.stop()
        self._before, self._staff = self.effort(), []

    def pids(self) -> list[int]:
        """Of the workers that run."""
        clients = [client for client in self._staff if client.alive]
        return [client.process.pid for client in clients if client.process.is_alive()]

    def _take_any(self) -> Event:
        while True:
            if (event := self._arrived()) is not None:
                return event
            begin = time.monotonic()
            for client in self._staff:
                client.hand_back()
            ready = wait([c.pipe for c in self._staff], timeout=1.0)
            self.waited += time.monotonic() - begin
            for client in self._staff:
                due = client.pipe in ready or client.is_stuck()
                if due and (failed := client.receive()) is not None:
                    return failed


class _Client:
    """One worker, seen from the training."""

    def __init__(self, engine: Local, number: int):
        self._engine, self._number = engine, number
        self._context = multiprocessing.get_context("spawn")
        self._slots = Slots(engine._metadata, engine.slots, self._context)
        self._views = self._slots.views()
        self._shared = self._context.RawArray("d", CELLS)
        self.status = np.frombuffer(self._shared)
        self.alive = False

    def start(self, plan: Plan) -> None:
        study = self._engine._study
        mine = plan.share(self._number, len(self._engine._staff))
        self.arrived: dict[int, deque[Event]] = {lane: deque() for lane in mine.assignments}
        self._freed: list[int] = []
        self.status[[LANE, SIMULATION, NUMBER]] = mine.place(study)  # until it says more itself
        self.status[COMPUTING], self.status[BEAT] = 1, time.monotonic() + FIRST_PATIENCE
        self.pipe, theirs = self._context.Pipe()
        self._poll = select.poll()  # `Connection.poll` makes one for every call
        self._poll.register(self.pipe.fileno(), select.POLLIN)
        plan_text = messages.plan_to_json(mine.assignments, mine.position)
        self.process = self._context.Process(
            target=work,
            args=(theirs, self._slots, self._shared, study.to_json(), plan_text),
            name=f"solver-{self._number}",
            daemon=True,
        )
        with deaf_to_interrupts():
            self.process.start()
        theirs.close()
        self.alive = True

    def receive(self) -> Failed | None:
        """Wait for one message and put it in its place; `Failed` if the worker is lost."""
        begin = 0.0
        while not self._poll.poll(0 if not begin else 1e3 * min(1.0, self._engine.patience)):
            begin = begin or time.monotonic()
            self.hand_back()
            if self.is_stuck():
                return self._lost(f"gave no frame for {self._engine.patience:g} s")
        if begin:
            self._engine.waited += time.monotonic() - begin
        try:
            message = self.pipe.recv_bytes()
        except (EOFError, OSError):
            self.process.join(5.0)
            return self._lost(f"its process ended with {_exit(self.process.exitcode)}")
        _, lane, _, _, slot, head, _ = messages.unpack(message)
        state, constants, parameters = self._views[slot]
        arrays = (state, constants, parameters) if head else (state, None, None)
        event = messages.event_of(message, arrays, self._releaser(slot))
        self.arrived[lane].append(event)
        return None

    def is_stuck(self) -> bool:
        computing, beat = self.status[COMPUTING], self.status[BEAT]
        return bool(computing) and time.monotonic() - beat > self._engine.patience

    def tell(self, kind: bytes, lane: int, assignments: Sequence[Assignment]) -> None:
        self._send(messages.orders(kind, lane, assignments))

    @property
    def effort(self) -> Effort:
        return Effort(float(self.status[BUSY]), float(self.status[IDLE]))

    def _send(self, message: bytes) -> None:
        """If it is gone, it will be told by the plan it begins again with."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send_bytes(message)

    def stop(self) -> None:
        if self.alive:
            self._send(messages.STOP)
            self.process.join(0.5)
            self._end()

    def _releaser(self, slot: int) -> Callable[[], None]:
        def release() -> None:
            self._freed.append(slot)
            if len(self._freed) >= min(CREDITS_AT_ONCE, self._slots.count):
                self.hand_back()

        return release

    def hand_back(self) -> None:
        """Free the slots of frames that were released."""
        if self._freed:
            self._send(messages.credits(self._freed))
            self._freed.clear()

    def _lost(self, reason: str) -> Failed:
        place = (int(self.status[cell]) for cell in (LANE, SIMULATION, NUMBER))
        self._end()
        return Failed(*place, reason, lost=True)

    def _end(self) -> None:
        if self.process.is_alive():
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()
        self.process.close()
        self.pipe.close()
        self.alive = False


def _exit(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    return f"signal {signal.Signals(-code).name}"
