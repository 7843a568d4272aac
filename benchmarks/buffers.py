"""Buffers of a stream: how fast samples are put, gathered and chosen, on one core.

    python -m benchmarks.buffers            samples of 0.5 KiB to 3.8 MiB in 256 MiB
    python -m benchmarks.buffers --quick    in 128 MiB, with fewer repeats

Bytes are those of the samples, each counted once; a sample is one tensor, or two of half the size,
an input and a target. Rows are uniformly random, as a reservoir gives them, and new with every
call; the block that is put is the same one, as solvers reuse theirs.

    put            Storage.put of 8 samples, and of a batch
    get            Storage.get of a batch
    collate        torch's default_collate of as many samples of a list, which a buffer of sample
                   objects would do. Its output is new memory: for batches of many MiB the C
                   library asks the system for it, or has some at hand that was freed before, and
                   then collating is as fast as get. So no bar is set there
    copyto         numpy, one large array to another. Small samples can be faster, from the cache
    insert, draw   a policy alone, capacity 1280, 4 draws per sample where it allows them

They take turns, each kind of sample in a process of its own. The machine may be shared, so the
best of the repeats is what counts, beside their median.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from torch.utils.data import default_collate

from benchmarks.result import Target, emit
from datasets.stream import BatchReservoir, Fifo, Firo, History, Quota, Reservoir
from datasets.stream.policy import Policy
from datasets.stream.storage import Storage

KIB, MIB = 2**10, 2**20
SIZES = {  # bytes of a sample, batch size
    "0.5 KiB": (512, 256),
    "4 KiB": (4 * KIB, 32),
    "16 KiB": (16 * KIB, 32),
    "1 MiB": (MIB, 32),
    "3.8 MiB": (1000 * 1000 * 4, 10),
}
POLICIES = {Fifo: 1, Firo: 1, Reservoir: 4, BatchReservoir: 4, Quota: 4, History: 4}
PARTS = ("target", "input")
CAPACITY, INSERTED, DRAWN = 1280, 8, 32

Repeats = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    total, repeats = (128 * MIB, 5) if quick else (256 * MIB, 15)

    rows, moved = [], {}
    for (label, (size, batch)), tensors in itertools.product(SIZES.items(), (1, 2)):
        seconds = apart(measure_storage, size, batch, PARTS[:tensors], total, repeats)
        counts = {"put 8": INSERTED, "put": batch, "get": batch, "collate": batch}
        for what, count in counts.items():
            rows.append(row(what.split()[0], label, tensors, count, seconds[what], count * size))
            moved[label, tensors, what] = rows[-1]["GB/s"]
    half = total // 2
    rows.append(row("copyto", f"{half // MIB} MiB", 1, 1, copying(half, repeats), half))
    steps = 2_000 if quick else 10_000
    chosen = {}
    for kind, reuse in POLICIES.items():
        chosen[kind] = measure_policy(kind, reuse, steps, repeats)
        for what, count in (("insert", INSERTED), ("draw", DRAWN)):
            rows.append(row(f"{kind.__name__} {what}", "", None, count, chosen[kind][what]))
    emit("buffers", rows, targets(moved, chosen), versions=("torch", "numpy"), threads=1)


def targets(
    moved: Mapping[tuple[str, int, str], float], chosen: Mapping[type, Repeats]
) -> dict[str, Target]:
    large = {
        what: [moved[label, 1, what] for label in SIZES if label != "0.5 KiB"]
        for what in ("put 8", "put", "get")
    }
    slowest = {w: 1e6 * max(min(s[w]) for s in chosen.values()) for w in ("insert", "draw")}
    return {
        "get from 4 KiB, one tensor, slowest, GB/s": Target(min(large["get"]), 8, "higher"),
        "put from 4 KiB, one tensor, slowest, GB/s": Target(
            min(large["put 8"] + large["put"]), 5, "higher"
        ),
        **{
            f"get over collate, one tensor of {label}": Target(
                moved[label, 1, "get"] / moved[label, 1, "collate"], 4, "higher"
            )
            for label in ("0.5 KiB", "4 KiB")
        },
        f"insert({INSERTED}), slowest policy, us": Target(slowest["insert"], 30, "lower"),
        f"draw({DRAWN}), slowest policy, us": Target(slowest["draw"], 20, "lower"),
    }


def row(
    what: str,
    sample: str,
    tensors: int | None,
    count: int,
    seconds: Sequence[float],
    size: int | None = None,
) -> dict:
    """One line of the table; `seconds` of a call, `size` in bytes."""
    best, middle = min(seconds), statistics.median(seconds)
    return {
        "what": what,
        "sample": sample,
        "tensors": tensors,
        "count": count,
        "us": 1e6 * best,
        "us, median": 1e6 * middle,
        "GB/s": size / best / 1e9 if size else None,
        "GB/s, median": size / middle / 1e9 if size else None,
    }


def apart(measure: Callable[..., Repeats], *arguments: object) -> Repeats:
    """In a new process, which no earlier one has left memory to."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def measure_storage(
    size: int, batch: int, parts: Sequence[str], total: int, repeats: int
) -> Repeats:
    """Seconds of a call, for each of the repeats, of samples of `size` bytes in `parts`."""
    torch.set_num_threads(1)
    capacity, chance = total // size, np.random.default_rng(0)
    length = size // 4 // len(parts)
    storage = Storage(capacity, dict.fromkeys(parts, (length,)))
    blocks = {
        n: {name: np.ones((n, length), np.float32) for name in parts} for n in (INSERTED, batch)
    }
    listed = [{name: torch.ones(length) for name in parts} for _ in range(capacity)]

    def collate(rows: np.ndarray) -> dict[str, torch.Tensor]:
        return default_collate([listed[k] for k in rows.tolist()])

    calls: dict[str, tuple[Callable[[np.ndarray], object], int]] = {
        "put 8": (lambda rows: storage.put(rows, blocks[INSERTED]), INSERTED),
        "put": (lambda rows: storage.put(rows, blocks[batch]), batch),
        "get": (storage.get, batch),
        "collate": (collate, batch),
    }
    for part in storage.parts.values():
        part.fill_(1)  # memory that was never written is not there yet
    found: Repeats = {what: [] for what in calls}
    for _ in range(repeats + 1):
        for what, (call, count) in calls.items():
            number = max(1, capacity // count // 2)
            rows = chance.permutation(capacity)[: number * count].reshape(number, count)
            found[what].append(clocked(call, rows))
    return {what: seconds[1:] for what, seconds in found.items()}  # the first one warms up


def clocked(call: Callable[[np.ndarray], object], rows: np.ndarray) -> float:
    """Mean seconds of a call."""
    start = time.perf_counter()
    for some in rows:
        call(some)
    return (time.perf_counter() - start) / len(rows)


def copying(size: int, repeats: int) -> list[float]:
    here, there = np.ones(size // 4, np.float32), np.zeros(size // 4, np.float32)
    found = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        np.copyto(there, here)
        found.append(time.perf_counter() - start)
    return found[1:]


def measure_policy(kind: type[Policy], reuse: int, steps: int, repeats: int) -> Repeats:
    """Median seconds of a call in the stationary state, for each of the repeats."""
    policy = kind(CAPACITY)
    policy.start(batch_size=DRAWN, reuse=reuse, samples=10**9, seed=0)
    for _ in range(policy.watermark() // INSERTED):
        policy.insert(INSERTED)
    found: Repeats = {"insert": [], "draw": []}
    for _ in range(repeats):
        seconds: Repeats = {"insert": [], "draw": []}
        for _ in range(steps // repeats):
            for _ in range(DRAWN // (reuse * INSERTED)):
                if policy.room() >= INSERTED:
                    seconds["insert"].append(_seconds(lambda: policy.insert(INSERTED)))
            seconds["draw"].append(_seconds(lambda: policy.draw(DRAWN, None)))
        for what, some in seconds.items():
            found[what].append(statistics.median(some))
    return found


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
