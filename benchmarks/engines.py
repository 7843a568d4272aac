"""How many frames a second do engines hand over, with more and more workers?

    python -m benchmarks.engines [--workers 1 2 4]

*Slow*: a heated plate on 64 x 64 points whose solver waits 50 ms more at every frame, so that
workers do not compete for the cores of this machine: what workers give beside each other.
*Fast*: the same without the wait: what the engine and this process can take, where workers and
training share the cores. Counted from the first 50 frames on, in order, nothing is trained.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks.models import composed
from benchmarks.result import emit
from datasets.build import instantiate
from datasets.stream import AsDrawn, Inproc, Local, Ray, Submitit
from datasets.stream.engine import Engine
from datasets.stream.intake import Intake
from datasets.stream.study import Study

DELAY, FIRST, LANES = 0.05, 50, 8
SLOW, FAST = 5.0, 4000  # seconds of waiting per worker; frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        engines: dict[str, Callable[[int], Engine]] = {
            "local": lambda workers: Local(workers),
            "ray": lambda workers: Ray(workers),
            "submitit, local": lambda jobs: Submitit(folder, jobs, "local"),
        }
        rows.append(_row("inproc", 1, Inproc))
        for name, make in engines.items():
            for workers in asked.workers:
                rows.append(_row(name, workers, lambda make=make, n=workers: make(n)))
    emit("engines", rows, {}, threads=1, versions=("torch", "numpy", "ray", "submitit"))


def _row(name: str, workers: int, make: Callable[[], Engine]) -> dict[str, str | float]:
    slow = round(SLOW * workers / DELAY) + FIRST
    return {
        "engine": name,
        "workers": workers,
        "slow, frames/s": _rate(_study(slow, DELAY), make()),
        "fast, frames/s": _rate(_study(FAST, 0.0), make()),
    }


def _study(frames: int, delay: float) -> Study:
    """At least so many frames."""
    settings = ["data=heated_plate", "data.resolution=64", "data_dir=unused"]
    problem = instantiate(composed(settings).data).problem()
    made = Study(problem.recipe, problem.shape, problem.seed, LANES, LANES, stagger=False)
    length = made.make()[1].num_frames
    count = -(-frames // length // LANES) * LANES + LANES
    slow = {"slow": list(range(count)), "delay": delay, "attempts": 1} if delay else {}
    return replace(made, count=count, frames=length, faults=slow)


def _rate(study: Study, engine: Engine) -> float:
    intake, count = Intake(study, engine, AsDrawn()), 0
    with contextlib.closing(engine):
        intake.start()
        while (arrival := intake.next()) is not None:
            arrival.frame.release()
            count += 1
            if count == FIRST:
                begin = time.perf_counter()
            if count > FIRST and time.perf_counter() - begin > SLOW:
                break
        return round((count - FIRST) / (time.perf_counter() - begin), 1)


if __name__ == "__main__":
    main()
