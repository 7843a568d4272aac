"""Windows of trajectories: our reader, the_well's own and a whole file in memory, on one file.

    python -m benchmarks.reading            64 x 64 in 100 frames and 512 x 512 in 40 frames
    python -m benchmarks.reading --quick    the same files with fewer trajectories and windows

A file in The Well's layout, float32, one scalar and one vector field, not chunked, as its
generators write it. Windows are one frame in and one out, in a random order:

    ours        Windows(WellTrajectories(file)), one window a call
    the_well    WellDataset[i], its defaults, its own order of axes
    everything  the file read whole, transposed to [n, *space, t, c] and copied, as PDEBench does;
                a window is a view of that. Reading counts, spread over one pass over all windows

The three take turns on the same windows; ratios are medians over rounds. The file lies in the
page cache. `everything` answers from memory afterwards, so its windows are also timed alone. Peak
memory is how much the high-water mark of a fresh process rises while it reads 200 windows, opening
included.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import torch

from benchmarks.result import Target, emit
from datasets import Field, Metadata, WellTrajectories, Windows
from datasets.layout import encode
from solvers import Grid

ROUNDS = 7
READERS = ("ours", "the_well", "everything")
SIZES = {"small": (64, 100, 40, 400), "large": (512, 40, 6, 60)}
QUICK = {"small": (64, 100, 10, 100), "large": (512, 40, 2, 20)}
MEMORY_WINDOWS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--memory", choices=READERS, help="print peak memory only")
    parser.add_argument("--file", type=Path, help="of which to print it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="the_well")
    if arguments.memory:
        print(memory_growth(arguments.memory, arguments.file))
        return

    rows, targets = [], {}
    with tempfile.TemporaryDirectory() as name:
        for label, settings in (QUICK if arguments.quick else SIZES).items():
            size, frames, count, windows = settings
            path = Path(name) / label / "fields.h5"
            write(path, size, frames, count)
            rounds = measure(path, windows)
            memory = {who: measured_apart(who, path) for who in READERS}
            what = f"{count} x {frames} of {size}^2"
            rows += [row(who, what, rounds, memory) for who in (*READERS, "view")]
            if label == "small":
                targets |= {
                    "64^2: windows/s over the_well's": Target(
                        ratio(rounds, "the_well"), 5.0, "higher"
                    ),
                    "64^2: memory over everything's": Target(
                        memory["ours"] / memory["everything"], 1 / 3, "lower"
                    ),
                }
            else:
                targets |= {
                    f"512^2: windows/s over {who}'s": Target(ratio(rounds, who), 1.0, "higher")
                    for who in ("the_well", "everything")
                }
    emit("reading", rows, targets, versions=("torch", "h5py", "numpy"), threads=1)


def row(who: str, what: str, rounds: Sequence[dict], memory: dict) -> dict:
    """One line of the table."""
    name = {"everything": "everything, one pass", "view": "everything, once it is read"}
    seconds = statistics.median(r[who] for r in rounds)
    return {
        "reader": name.get(who, who),
        "file": what,
        "windows per s": 1 / seconds,
        "peak memory MB": memory.get(who, memory["everything"]),
    }


def ratio(rounds: Sequence[dict], other: str) -> float:
    return statistics.median(r[other] / r["ours"] for r in rounds)


def write(path: Path, size: int, frames: int, count: int) -> None:
    """A file in the layout; its large datasets are contiguous, as The Well's are."""
    generator = np.random.default_rng(0)
    fields = (Field("density"), Field("velocity", components=2))
    grid = Grid.box((size, size), boundary="periodic", points="left")
    meta = Metadata("fields", (), fields, grid, dt=0.1, num_frames=frames)
    arrays = {
        "density": np.empty((1, frames, size, size), dtype="f4"),
        "velocity": np.empty((1, frames, size, size, 2), dtype="f4"),
    }
    path.parent.mkdir()
    path.write_bytes(encode(meta, arrays))
    with h5py.File(path, "r+") as file:
        file.attrs["n_trajectories"] = count
        for name, array in arrays.items():
            group = f"t{int(name == 'velocity')}_fields"
            attributes = dict(file[group][name].attrs)
            del file[group][name]
            data = file[group].create_dataset(name, (count, *array.shape[1:]), "f4")
            data.attrs.update(attributes)
            for index in range(count):
                data[index] = generator.random(array.shape[1:], dtype="f4")


def readers(path: Path) -> dict[str, Callable[[int], object]]:
    """Window i by each reader; `everything` reads the file when it is called here."""
    from the_well.data import WellDataset

    ours = Windows(WellTrajectories(path))
    theirs = WellDataset(path=str(path.parent), n_steps_input=1, n_steps_output=1)
    return {"ours": lambda i: ours.__getitems__([i]), "the_well": lambda i: theirs[i]}


def everything(path: Path) -> torch.Tensor:
    """[n, *space, t, c]"""
    with h5py.File(path, locking=False) as file:
        density = np.array(file["t0_fields/density"], dtype="f4")
        velocity = np.array(file["t1_fields/velocity"], dtype="f4")
    parts = [np.transpose(density[..., None], (0, 2, 3, 1, 4))]
    parts.append(np.transpose(velocity, (0, 2, 3, 1, 4)))
    return torch.from_numpy(np.concatenate(parts, axis=-1))


def view(data: torch.Tensor, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A window, copied as a batch of one needs it."""
    number, start = divmod(index, data.shape[3] - 1)
    return data[number, ..., start, :].clone(), data[number, ..., start + 1, :].clone()


def measure(path: Path, windows: int) -> list[dict[str, float]]:
    """Seconds per window of each reader, in turns."""
    found = readers(path)
    total = len(Windows(WellTrajectories(path)))
    generator = np.random.default_rng(1)
    for read in found.values():
        read(0)
    rounds = []
    for _ in range(ROUNDS):
        order = generator.integers(0, total, windows).tolist()
        seconds = {who: clocked(read, order) for who, read in found.items()}
        start = time.perf_counter()
        data = everything(path)
        loading = time.perf_counter() - start
        seconds["view"] = clocked(lambda i, data=data: view(data, i), order)
        seconds["everything"] = seconds["view"] + loading / total
        del data
        rounds.append(seconds)
    return rounds


def clocked(read: Callable[[int], object], order: Sequence[int]) -> float:
    start = time.perf_counter()
    for index in order:
        read(index)
    return (time.perf_counter() - start) / len(order)


def measured_apart(who: str, path: Path) -> float:
    """`memory_growth` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.reading", "--memory", who, "--file", str(path)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    return float(done.stdout)


def memory_growth(who: str, path: Path) -> float:
    """MB by which the high-water mark of this process rises while windows are read."""
    import the_well.data  # noqa: F401

    before = _high_water_mb()
    if who == "everything":
        data = everything(path)
        total = data.shape[0] * (data.shape[3] - 1)
        read: Callable[[int], object] = lambda i: view(data, i)  # noqa: E731
    else:
        total = len(Windows(WellTrajectories(path)))
        read = readers(path)[who]
    for index in np.random.default_rng(2).integers(0, total, MEMORY_WINDOWS).tolist():
        read(index)
    return _high_water_mb() - before


def _high_water_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    [mark] = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(mark) / 1024


if __name__ == "__main__":
    main()
