"""A folder between one job and the process that trains."""

import contextlib
import os
import shutil
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datasets.store import commit
from datasets.stream.events import Event
from datasets.stream.shard import packed

PLAN, STUDY, BEAT, STOP, ALIVE = "plan.json", "study.json", "beat", "stop", "alive"
_BEAT = struct.Struct("<QQIQQddd")


class Beat(NamedTuple):
    """What a job says of itself: a `count` that grows, its process, where it is, and seconds: at
    this frame (0 while nothing is computed), of computing and of waiting in all.
    """

    count: int = 0
    pid: int = 0
    lane: int = 0
    simulation: int = 0
    number: int = 0
    at: float = 0.0
    busy: float = 0.0
    idle: float = 0.0

    def packed(self) -> bytes:
        return _BEAT.pack(*self)


class Spool:
    """The folder of one generation of one job. Everything in it was written whole (`commit`) and
    holds JSON or numbers, nothing pickled.

        plan.json       what the job begins with
        order-00000001  what it is told later, in this order; it deletes what it has read
        shard-00000001  what it computed, in this order; the training deletes what it has counted
        beat            one `Beat`, written in place
        stop            asks it to end
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def begin(self, plan: str) -> None:
        """Before the job."""
        self.folder.mkdir()
        commit(self.folder / PLAN, plan.encode())

    def shard(self, number: int) -> Path:
        return self.folder / f"shard-{number:08d}"

    def order(self, number: int) -> Path:
        return self.folder / f"order-{number:08d}"

    def put(self, number: int, events: Sequence[Event]) -> int:
        """A shard; its bytes."""
        data = packed(events)
        commit(self.shard(number), data)
        return len(data)

    def beat(self) -> Beat | None:
        """None before the first one."""
        with contextlib.suppress(OSError, struct.error):
            return Beat(*_BEAT.unpack((self.folder / BEAT).read_bytes()))
        return None

    def stopped(self) -> bool:
        """The job is to end, or its folder is gone."""
        return (self.folder / STOP).exists() or not self.folder.exists()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            commit(self.folder / STOP, b"")


def remove(folder: Path, seconds: float = 5.0) -> None:
    """A folder that somebody may still be writing into."""
    deadline = time.monotonic() + seconds
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        if os.path.exists(folder):
            time.sleep(0.05)
