"""What second-order methods gain: errors after equal seconds of training, many and few data.

    python -m benchmarks.curvature_gain PROBLEM [--methods adamw,kfac,...] [--keep runs/gain]
    python -m benchmarks.curvature_gain PROBLEM --calibrate        first, on a quiet machine

Every method gets as many steps as fit into the seconds of AdamW's, by the ratio of their times per
step, which `--calibrate` measures: blocks of steps of a method and of AdamW's take turns, medians
count. Noise of the machine therefore does not enter the errors. Each is tuned by the same number of
trials with the seed 3 (`gain_problems.TRIALS`, AdamW also over its eps); the lowest validation
error decides. Then seeds 0, 1 and 2 (weights and order of the samples) give the errors on test
data, which nothing else has seen, and on as many training samples, with 95 % t-intervals. One
thread each.

"in x of the time" repeats the seeds with steps and schedule shortened to that share. Results are
kept in lines of JSON below `--keep`; what is there is not computed again. The
trainings of FNOs behind docs/curvature.md are kept in benchmarks/results/gain.
"""

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path

import torch
from lightning import seed_everything

from benchmarks.foreign_optimizers import KEY, factory
from benchmarks.gain_problems import PROBLEMS, RATE, TRIALS, Problem
from benchmarks.models import composed
from benchmarks.result import Target, emit, half_width
from datasets.build import instantiate
from datasets.schema import Batch
from sciml.losses import RelativeL2
from sciml.runtime.allocator import keep_freed_memory
from sciml.runtime.run_folder import ROOT
from sciml.tasks import OneCycle, Supervised
from sciml.tasks.build import build_task

SEEDS, TUNING_SEED, WARMUP = (0, 1, 2), 3, 0.05
BLOCK, NEWTON_BLOCK = 50, 10  # steps; all of newton_cg's take the same time
SHARES = (0.75, 0.5)
BARS = {"fno_many": 0.75, "fno_few": 0.65, "deeponet_many": 0.9, "deeponet_few": 1.0}


class Arena:
    """The data of a problem in memory."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.dataset = instantiate(composed([*problem.overrides, "name=gain"]).data)
        self.data = {}
        for split in ("train", "valid", "test"):
            source = self.dataset.source(split)
            self.data[split] = source.__getitems__(range(len(source)))

    def error(self, task: Supervised, split: str) -> float:
        """On a split, of the training data as many samples as there are to test."""
        count = min(len(self.data[split].input), len(self.data["test"].input))
        with torch.no_grad():
            parts = [rows_of(self.data[split], rows) for rows in torch.arange(count).split(64)]
            return float(
                torch.cat([RelativeL2()(task(p.input), p.target, None) for p in parts]).mean()
            )


class Training:
    """One training, step by step."""

    def __init__(self, arena: Arena, settings: dict, seed: int, steps: int, schedule=None):
        torch.set_num_threads(1)
        seed_everything(seed, verbose=False)
        self.arena, self.batches = arena, self._batches(seed)
        ours = {k: v for k, v in settings.items() if KEY not in settings}
        overrides = [f"{key}={value}" for key, value in ours.items()]
        unasked = {"curvature": "none", "optimizer": "adamw"}
        overrides += [f"{group}={name}" for group, name in unasked.items() if group not in ours]
        config = composed([*arena.problem.overrides, *overrides, "name=gain"])
        self.task = build_task(config, arena.dataset)
        if KEY in settings:
            self.task._optimizer = factory(settings, settings[RATE])
        self.task.log = lambda *arguments, **options: None
        self.optimizer = self.task.make_optimizer()
        self.schedule = (schedule or OneCycle(WARMUP))(self.optimizer, steps)

    def step(self) -> float:
        """The loss before it."""
        batch = next(self.batches)

        def closure() -> torch.Tensor:
            self.optimizer.zero_grad()
            loss = self.task.training_step(batch, 0)
            loss.backward()
            return loss

        loss = float(self.optimizer.step(closure).detach())
        self.schedule.step()
        return loss

    def _batches(self, seed: int):
        generator = torch.Generator().manual_seed(seed)
        data, size = self.arena.data["train"], self.arena.problem.batch
        while True:
            for rows in torch.randperm(len(data.input), generator=generator).split(size):
                if len(rows) == size:
                    yield rows_of(data, rows)


def rows_of(batch: Batch, rows: torch.Tensor) -> Batch:
    *parts, coordinates = batch
    return Batch(*(part[rows] for part in parts), coordinates)


def train(
    arena: Arena, settings: dict, seed: int, steps: int, schedule=None, after_step=None
) -> dict[str, float]:
    """Errors after so many steps; infinite if it diverges. `after_step` is called with the task."""
    start, training = time.process_time(), Training(arena, settings, seed, steps, schedule)
    for _ in range(steps):
        if not training.step() < 1e3:
            return dict.fromkeys(("train", "valid", "test"), math.inf)
        if after_step is not None:
            after_step(training.task)
    training.task.eval()
    found = {split: arena.error(training.task, split) for split in arena.data}
    return found | {"seconds": time.process_time() - start}


def calibrate(arena: Arena, method: str, rounds: int = 5) -> dict[str, float]:
    """Seconds of a step over those of AdamW's, the two in turns: the mean over a block that holds
    one inversion and five samples of the curvature, medians over rounds.
    """
    keep_freed_memory()  # as `train.py` does
    trials = {m: arena.problem.trials(m)[0] for m in ("adamw", method)}
    runs = {m: Training(arena, trial, TUNING_SEED, 10**6) for m, trial in trials.items()}
    taken: dict[str, list[float]] = {m: [] for m in runs}
    for round_ in range(rounds + 1):
        for name, training in runs.items():
            steps = NEWTON_BLOCK if name == "newton_cg" else BLOCK
            start = time.perf_counter()
            for _ in range(steps):
                training.step()
            if round_:
                taken[name].append((time.perf_counter() - start) / steps)
    ratios = (a / b for a, b in zip(taken[method], taken["adamw"], strict=True))
    return {"ms": 1e3 * statistics.median(taken[method]), "ratio": statistics.median(ratios)}


class Record:
    """Trainings by what they were asked for, one line of JSON each."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.known = path, {}
        if path.is_file():
            self.known = dict(map(json.loads, path.read_text().splitlines()))

    def get(self, make, **asked) -> dict[str, float]:
        key = json.dumps(asked, sort_keys=True)
        if key not in self.known:
            self.known[key] = make()
            with self.path.open("a") as file:
                file.write(json.dumps([key, self.known[key]]) + "\n")
            print(key, self.known[key], file=sys.stderr, flush=True)
        return self.known[key]

    def lines(self) -> list[dict]:
        """What was asked for and what came of it, in one."""
        return [json.loads(key) | found for key, found in self.known.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problem", choices=PROBLEMS)
    parser.add_argument("--methods", help="separated by commas; all without it")
    parser.add_argument("--keep", type=Path, default=ROOT / "runs" / "gain")
    parser.add_argument("--calibrate", action="store_true")
    asked = parser.parse_args()
    methods = asked.methods.split(",") if asked.methods else list(TRIALS)
    arena = Arena(PROBLEMS[asked.problem])
    speeds = asked.keep / f"{asked.problem}-seconds.json"
    if asked.calibrate:
        known = json.loads(speeds.read_text()) if speeds.is_file() else {}
        known |= {m: calibrate(arena, m) for m in dict.fromkeys(["adamw", *methods])}
        speeds.parent.mkdir(parents=True, exist_ok=True)
        speeds.write_text(json.dumps(known, indent=2) + "\n")
        print(json.dumps(known, indent=2))
        return
    known = json.loads(speeds.read_text())
    record = Record(asked.keep / f"{asked.problem}.jsonl")
    rows = [row(arena, record, m, known[m]) for m in methods]
    emit("curvature_gain", rows, targets(asked.problem, rows), threads=1)


def row(arena: Arena, record: Record, method: str, speed: dict[str, float]) -> dict:
    budget = round(arena.problem.steps / speed["ratio"])

    def run(settings: dict, seed: int, steps: int) -> dict[str, float]:
        return record.get(
            lambda: train(arena, settings, seed, steps),
            settings=settings,
            seed=seed,
            steps=steps,
        )

    best = min(arena.problem.trials(method), key=lambda s: run(s, TUNING_SEED, budget)["valid"])
    found = [run(best, seed, budget) for seed in SEEDS]
    test = [100 * f["test"] for f in found]
    row = {
        "method": method,
        "step/AdamW": speed["ratio"],
        "steps": budget,
        "test, %": statistics.fmean(test),
        "± 95 %": half_width(test),
        "train, %": 100 * statistics.fmean(f["train"] for f in found),
    }
    for share in SHARES:
        short = [run(best, seed, round(share * budget))["test"] for seed in SEEDS]
        row[f"in {share:g} of the time"] = 100 * statistics.fmean(short)
    return row | {"settings": ", ".join(f"{k.split('.')[-1]} {v}" for k, v in best.items())}


def targets(problem: str, rows: list[dict]) -> dict[str, Target]:
    """Of K-FAC against AdamW."""
    found = {r["method"]: r for r in rows}
    if not {"adamw", "kfac"} <= found.keys():
        return {}
    adamw = found["adamw"]["test, %"]
    held = {}
    if problem in BARS:
        ratio = found["kfac"]["test, %"] / adamw
        held["kfac, error over that of adamw"] = Target(ratio, BARS[problem], "lower")
    share = {"fno_many": 0.75, "fno_few": 0.5}.get(problem)
    if share:
        ratio = found["kfac"][f"in {share:g} of the time"] / adamw
        held[f"kfac in {share:g} of the time, error over adamw's"] = Target(ratio, 1, "lower")
    return held


if __name__ == "__main__":
    main()
