"""Learning-rate schedules at the same number of steps: straight lines, curves, and the one that
gradients of an earlier run suggest.

    python -m benchmarks.schedules [--problems fno_few,fno_many] [--methods adamw,kfac]

FNOs for Burgers' equation with the settings that `benchmarks.curvature_gain` chose for each method
(validation data, under the one-cycle schedule with 5 % of warm-up, which is an advantage for that
one). "refined" follows the gradients of one training with the linear schedule and the seed 3.
Errors on test data, seeds 0, 1 and 2, 95 % t-intervals. Every schedule has the same peak.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.curvature_gain import SEEDS, TUNING_SEED, WARMUP, Arena, Record, train
from benchmarks.gain_problems import PROBLEMS
from benchmarks.result import emit, half_width
from sciml.runtime.gradient_norm import gradient_l1
from sciml.runtime.run_folder import ROOT
from sciml.tasks import Constant, Cosine, Linear, OneCycle
from sciml.tasks.refined_schedule import refined
from sciml.tasks.schedule import Following

PLAIN = {
    "constant": Constant(),
    "cosine": Cosine(),
    "one_cycle": OneCycle(WARMUP),
    "linear": Linear(WARMUP),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", default="fno_few,fno_many")
    parser.add_argument("--methods", default="adamw,kfac")
    parser.add_argument("--keep", type=Path, default=ROOT / "runs" / "gain")
    asked = parser.parse_args()
    rows = []
    for problem in asked.problems.split(","):
        arena = Arena(PROBLEMS[problem])
        tuned = Record(asked.keep / f"{problem}.jsonl")
        record = Record(asked.keep / f"{problem}-schedules.jsonl")
        for method in asked.methods.split(","):
            settings, steps = chosen(tuned, arena, method)
            found = errors(arena, record, settings, steps)
            rows += [{"problem": problem, "method": method} | row for row in found]
    emit("schedules", rows, {}, threads=1)


def chosen(record: Record, arena: Arena, method: str) -> tuple[dict, int]:
    """The trial with the lowest validation error, and its number of steps."""
    trials = arena.problem.trials(method)
    found = [tried for tried in record.lines() if tried["seed"] == TUNING_SEED]
    best = min(
        (t for t in found if t["settings"] in trials), key=lambda t: t["valid"], default=None
    )
    if best is None:
        raise SystemExit(f"{method} is not tuned yet: run benchmarks.curvature_gain first.")
    return best["settings"], best["steps"]


def errors(arena: Arena, record: Record, settings: dict, steps: int) -> list[dict]:
    """A row for each schedule."""

    def run(name: str, schedule: Callable, seed: int) -> dict[str, float]:
        return record.get(
            lambda: train(arena, settings, seed, steps, schedule),
            schedule=name,
            settings=settings,
            seed=seed,
            steps=steps,
        )

    def observed() -> dict[str, list[float]]:
        norms: list[float] = []
        keep = lambda task: norms.append(float(gradient_l1(task.parameters())))  # noqa: E731
        train(arena, settings, TUNING_SEED, steps, Linear(WARMUP), keep)
        return {"norms": norms[9::10]}  # as often as runs log them

    seen = record.get(observed, gradients=settings, seed=TUNING_SEED, steps=steps)
    kept = np.array(seen["norms"])
    made = PLAIN | {"refined": lambda o, n: Following(o, refined(kept, n, warmup=WARMUP).tolist())}
    rows = []
    for name, schedule in made.items():
        found = [100 * run(name, schedule, seed)["test"] for seed in SEEDS]
        mean = statistics.fmean(found)
        rows.append({"schedule": name, "test, %": mean, "± 95 %": half_width(found)})
    return rows


if __name__ == "__main__":
    main()
