"""What a job of a cluster runs: some lanes of a study, computed into a folder."""

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from datasets.stream import messages
from datasets.stream.events import Event, Frame
from datasets.stream.shard import packed
from datasets.stream.spool import ALIVE, BEAT, PLAN, STUDY, Beat, Spool
from datasets.stream.study import Study
from datasets.stream.turns import Turns

FRAMES = 8  # in a shard, at most
SECONDS = 0.25  # of computing in a shard, at most, beyond one frame
LOOK = 0.02  # seconds between two looks into the folder


def compute(folder: str, share: int, patience: float) -> None:
    """Until told to stop, or nobody has read or said anything for `patience` seconds."""
    torch.set_num_threads(1)
    SpoolJob(Spool(Path(folder)), share, patience).run()


class SpoolJob:
    """Takes the turns of its lanes in the order of their rota and writes shards, as long as those
    that the training has not counted have less than `share` bytes.

    A thread says every second where it is and for how long, also while a solver computes.
    """

    def __init__(self, spool: Spool, share: int, patience: float):
        self._spool, self._share, self._patience = spool, share, patience
        self._place, self._begun = (0, 0, 0), 0.0
        self._busy = self._idle = 0.0
        self._beats = self._orders = self._shards = 0
        self._unread: dict[Path, int] = {}  # bytes of the shards that were there at the last look
        self._events: list[Event] = []
        self._first = self._looked = 0.0
        self._stopped, self._over = False, threading.Event()
        self._alive = (0.0, time.monotonic())  # of the training: what its file said, and since when
        self._lock = threading.Lock()
        study = Study.from_json((spool.folder.parent / STUDY).read_text())
        plan = messages.plan_from_json((spool.folder / PLAN).read_text())
        self._file = os.open(spool.folder / BEAT, os.O_WRONLY | os.O_CREAT, 0o600)
        self._turns = Turns(study, *plan, self._begin)

    def run(self) -> None:
        watch = threading.Thread(target=self._watch, daemon=True)
        watch.start()
        try:
            while not self._stopped:
                self._listen()
                event = self._turns.next()
                self._pause()
                if event is not None:
                    self._add(event)
                if self._events and (event is None or not isinstance(event, Frame) or self._due()):
                    self._send(self._events)
                    self._events = []
                if event is None:
                    self._wait()
        except FileNotFoundError:
            if self._spool.folder.exists():
                raise  # else it was removed: nobody wants the rest
        finally:
            self._over.set()
            watch.join()
            os.close(self._file)

    def _add(self, event: Event) -> None:
        """A copy: a solver may go on in the same memory."""
        if isinstance(event, Frame):
            place = (event.lane, event.simulation, event.number)
            parts = (event.state, event.constants, event.parameters)
            event = Frame(*place, *(None if part is None else part.copy() for part in parts))
        if not self._events:
            self._first = time.monotonic()
        self._events.append(event)

    def _due(self) -> bool:
        frames = [event for event in self._events if isinstance(event, Frame)]
        size = frames[-1].state.nbytes
        full = len(frames) >= FRAMES or 4 * size * (len(frames) + 1) > self._share
        return full or time.monotonic() - self._first > SECONDS

    def _send(self, events: Sequence[Event]) -> None:
        """When there is room for them; too many are halved."""
        size = len(packed(events))
        if len(events) > 1 and 2 * size > self._share:
            self._send(events[: len(events) // 2])
            self._send(events[len(events) // 2 :])
            return
        while not self._stopped and self._used() + size > self._share:
            self._wait()
        if not self._stopped:
            self._shards += 1
            self._unread[self._spool.shard(self._shards)] = self._spool.put(self._shards, events)

    def _used(self) -> int:
        """Bytes of the shards that are still there."""
        self._unread = {path: size for path, size in self._unread.items() if path.exists()}
        return sum(self._unread.values())

    def _wait(self) -> None:
        begin = time.monotonic()
        time.sleep(LOOK)
        self._listen()
        if not self._turns.over:
            self._idle += time.monotonic() - begin

    def _listen(self) -> None:
        """Orders, and whether to stop."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        while (path := self._spool.order(self._orders + 1)).exists():
            self._turns.obey(path.read_bytes())
            self._orders += 1
            path.unlink()
        self._stopped = self._spool.stopped() or self._deserted(now)

    def _deserted(self, now: float) -> bool:
        """Whether the process that trains has been silent for too long."""
        said = (self._spool.folder.parent / ALIVE).stat().st_mtime
        if said != self._alive[0]:
            self._alive = said, now
        return now - self._alive[1] > self._patience

    def _begin(self, lane: int, simulation: int, number: int) -> None:
        self._pause()
        self._place, self._begun = (lane, simulation, number), time.monotonic()
        self._beat()

    def _pause(self) -> None:
        if self._begun:
            self._busy += time.monotonic() - self._begun
            self._begun = 0.0

    def _watch(self) -> None:
        while not self._over.is_set():
            self._beat()
            os.fsync(self._file)
            self._over.wait(1.0)

    def _beat(self) -> None:
        with self._lock:
            self._beats += 1
            begun = self._begun
            at = time.monotonic() - begun if begun else 0.0
            beat = Beat(self._beats, os.getpid(), *self._place, at, self._busy, self._idle)
            os.pwrite(self._file, beat.packed(), 0)
