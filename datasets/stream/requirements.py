"""Settings of a stream that are refused before anything starts."""

import os
from pathlib import Path

from datasets.stream.assembler import Assembler
from datasets.stream.history_stored import HistoryStored
from datasets.stream.limiter import Limiter
from datasets.stream.policy import Policy
from datasets.stream.recording import Recording
from datasets.stream.whole import WholeTrajectories


def require_store(buffer: Policy, tee: str | None, recording: Recording | None) -> None:
    """Before anything starts: what is to be read must be written, and not over itself."""
    if isinstance(buffer, HistoryStored) and tee is None and recording is None:
        raise ValueError(
            "online/buffer=history_stored draws from solutions that are recorded: set "
            "online.tee=FOLDER, or take online/buffer=history, which keeps samples in memory."
        )
    if (
        recording is not None
        and tee is not None
        and recording.path.resolve() == Path(tee).resolve()
    ):
        raise ValueError(
            f"online.tee={tee}: is the recording that is given again; leave online.tee out, or "
            "give a new folder."
        )


def require_room(
    assembler: Assembler | WholeTrajectories, capacity: int, limiter: Limiter, lanes: int
) -> None:
    """Before anything starts: what could only end in waiting for each other, or in batches of the
    same few.
    """
    unit, least = assembler.unit, assembler.per_client * lanes
    if limiter.watermark > capacity:
        raise ValueError(
            f"online.watermark={limiter.watermark}: the buffer holds {capacity} {unit}; lower the "
            "watermark, or raise online.buffer.capacity."
        )
    if capacity * assembler.per_item < limiter.batch_size:
        raise ValueError(
            f"online.buffer.capacity={capacity} {unit} have {capacity * assembler.per_item} "
            f"windows, not a batch of {limiter.batch_size}; raise it, or lower batch_size."
        )
    if capacity < least:
        raise ValueError(
            f"online.buffer.capacity={capacity} is too small for {lanes} clients: it should hold "
            f"{least} {unit} at least; raise it, or lower online.clients."
        )


def require_memory(capacity: int, assembler: Assembler | WholeTrajectories) -> None:
    """Before anything is allocated; memory is that of the machine."""
    each, there = assembler.row_bytes, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if capacity * each > there:
        raise ValueError(
            f"online.buffer.capacity={capacity} {assembler.unit} of {each / 2**10:.3g} KiB take "
            f"{capacity * each / 2**30:.3g} GiB, there are {there / 2**30:.3g} GiB; lower it."
        )


def require_choices(count: int, early: int, lanes: int) -> None:
    """Before anything is learned the simulations of the watermark have been chosen, those under
    way, and the next of each lane.
    """
    if early + 2 * lanes >= count:
        raise ValueError(
            f"online.sampler: the parameters of {early + 2 * lanes} simulations are chosen before "
            f"the first training step, of {count} in all, so no error could have a say; ask for "
            "more simulations (data.counts.train), lower online.watermark or online.clients, or "
            "set online/sampler=sobol."
        )
