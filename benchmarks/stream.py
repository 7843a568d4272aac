"""Does a stream keep the training waiting, and does its memory stay where it is?

    python -m benchmarks.stream [--gigabytes 20] [--quick]

*Waiting*: experiment=online_heat and online_burgers_fno with one worker. The training waited for
the solver in the given share of its time, the solver for the training in the other one; a solver
that is slower than the training cannot keep up, and then the training has to wait. Beside it the
time of a step on the stream over that of a step on the same samples from files, three runs each in
turn, medians: what receiving, storing and drawing cost.

*Memory*: `--gigabytes` of frames of 1 MiB from a solver that costs nothing go through a reservoir
of 256 and are drawn twice each; resident memory of this process at every twentieth of the way. None
of it is on disk.
"""

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import torch

from benchmarks.models import composed
from benchmarks.result import Target, emit
from datasets.build import instantiate
from sciml.evaluation.run_folder import STREAM, read_run
from sciml.run import run
from sciml.runtime.run_folder import RunFolder

EXPERIMENTS = ("online_heat", "online_burgers_fno")
FRAME = 2**20  # bytes
POINTS = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--quick", action="store_true", help="one run each, 2 GB")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    repeats, gigabytes = (1, 2.0) if asked.quick else (3, asked.gigabytes)
    rows, targets = [], {}
    for name in EXPERIMENTS:
        row, keeps_up = _waiting(name, repeats)
        rows.append(row)
        if keeps_up:
            what = f"{name}, training waited, %"
            targets[what] = Target(row["training waited, %"], 10.0, "lower")
    memory = _memory(gigabytes)
    grown = max(memory["megabytes"][2:]) / memory["megabytes"][1]
    targets[f"memory over {gigabytes:g} GB, most / after a tenth"] = Target(grown, 1.02, "lower")
    rows.append(
        {
            "what": f"{gigabytes:g} GB through a reservoir",
            "training waited, %": memory["waited"],
            "solver waited, %": memory["idle"],
            "step, stream / files": None,
            "MB at first, at last": "{:.0f}, {:.0f}".format(*memory["megabytes"][1::18]),
            "GB/s": memory["rate"],
        }
    )
    emit("stream", rows, targets, threads=1)


def _waiting(name: str, repeats: int) -> tuple[dict, bool]:
    """Shares of time, the time per step beside that of samples from files, and whether the solver
    needs less time for its simulations than a training from files takes.
    """
    seconds: dict[bool, list[float]] = {True: [], False: []}
    kept: dict[str, float] = {}
    for _ in range(repeats):
        for streamed in (True, False):
            figures, status = _run(name, streamed)
            seconds[streamed].append(figures["train_s"] / figures["steps"])
            kept = status or kept
    working = max(kept["busy"] + kept["idle"], 1e-9)
    steps, files = kept["batches"], statistics.median(seconds[False])
    row = {
        "what": name,
        "training waited, %": 100 * kept["waited"] / kept["seconds"],
        "solver waited, %": 100 * kept["idle"] / working,
        "step, stream / files": statistics.median(seconds[True]) / files,
        "MB at first, at last": None,
        "GB/s": None,
    }
    return row, kept["busy"] < steps * files


def _run(name: str, streamed: bool) -> tuple[dict, dict]:
    """Figures of a run and, of a stream, its last status."""
    chosen = [f"experiment={name}", "compare={}", "name=stream"]
    config = composed(chosen if streamed else [*chosen, "online=none", "trainer.max_epochs=4"])
    config.compare = {}
    with tempfile.TemporaryDirectory() as path, contextlib.redirect_stdout(io.StringIO()):
        folder = RunFolder(Path(path))
        folder.write_config(config, chosen)
        with patch("sciml.run.write_report"):
            figures = run(config, folder)
        file = folder.path / STREAM
        status = json.loads(file.read_text())["status"] if file.is_file() else {}
        return dict(read_run(folder.path).metrics) | {"train_s": figures["train_s"]}, status


def resident_megabytes() -> float:
    """Of this process now, 10^6 bytes; Linux."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError("/proc/self/status does not say VmRSS; this benchmark is for Linux.")


def _memory(gigabytes: float) -> dict:
    """Megabytes at every twentieth of a stream, shares of time, and GB of frames per second."""
    frames = 64
    count = max(40, round(gigabytes * 1e9 / FRAME / frames))
    solver = Path(__file__).with_name("noise_solver.py")
    config = composed(
        ["data=python", f"data.pde.solver.path={solver}", "data.pde.parameters={}"]
        + ["data.pde.name=noise", f"data.pde.num_steps={frames - 1}", "name=stream"]
        + ["data.pde.fields=[{name: u}]", "online=local", "online.buffer.capacity=256"]
        + ["data.window={history: 1, first: 0}", "online.reuse=2", "online.clients=4"]
        + [f"data.counts={{train: {count}, valid: 1, test: 1}}", f"data.resolution={POINTS}"]
    )
    config.data.pde.grid.axes.append(dict(config.data.pde.grid.axes[0], name="y"))
    dataset = instantiate(config.data)
    with contextlib.closing(
        instantiate(config.online, dataset=dataset, batch_size=32, epochs=1, seed=0)
    ) as online:
        begin, found = time.monotonic(), []
        steps = online.stream.limiter.steps
        for batch in online.loader():
            batch.target.sum()  # somebody reads it
            if online.stream.batches * 20 // steps > len(found):
                found.append(resident_megabytes())
        seconds, status = time.monotonic() - begin, online.stream.status()
    working = max(status["busy"] + status["idle"], 1e-9)
    return {
        "megabytes": found,
        "waited": 100 * status["waited"] / seconds,
        "idle": 100 * status["idle"] / working,
        "rate": count * frames * FRAME / 1e9 / seconds,
    }


if __name__ == "__main__":
    main()
