"""What a stream of simulations is worth beside simulations that were made before.

    python -m benchmarks.online PROBLEM [--rows reservoir,history] [--keep runs/online] [--quick]

PROBLEM is heat (fully connected), burgers or navier_stokes (FNO). N simulations are the budget of
the solver and S steps that of the training, S such that a sample of the stream is drawn four times;
`tenth` and `all` train as many steps on a tenth of the simulations, and on all of them, shuffled.
`fifo` and `firo` draw every sample once and so make S / 4 steps; with `_4` they have four times
the simulations and S steps. In rows named `together` clients do not begin one after another.
`pairs` keeps as many whole solutions as have the windows that the other buffers hold.

Every row is tried with each learning rate by seed 3, and the validation error chooses; seeds 0, 1
and 2 (weights, order of samples, draws of the buffer) then give the errors on test data, which
nothing else has seen, with 95 % t-intervals. Simulations are those of data seed 0 throughout. Each
stream is recorded once and replayed, which gives bitwise what the solver gives, so errors do not
depend on the machine's load. Recordings and results, in lines of JSON, are kept below `--keep`, and
what is there is not computed again.

Errors are means over test samples of the relative L2 error, and their 99 % quantile. The paper that
the buffers come from reports by how much its validation error falls against training on a fixed
data set of a tenth [Meyer et al. 2023, arXiv:2306.16133]: 68 % for a fully connected network, 16 %
for an FNO; other problems, networks and measure.
"""

import argparse
import contextlib
import io
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks.models import composed
from benchmarks.online_problems import PROBLEMS, ROWS
from benchmarks.result import Target, emit, half_width
from datasets.build import instantiate
from sciml.evaluation.run_folder import read_run
from sciml.run import run
from sciml.runtime.run_folder import RunFolder

SEEDS, TUNING_SEED = (0, 1, 2), 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("problem", choices=PROBLEMS)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--keep", type=Path, default=Path("runs/online"))
    parser.add_argument("--quick", action="store_true", help="one rate, one seed, four rows")
    asked = parser.parse_args()
    names = asked.rows.split(",")
    if unknown := sorted(set(names) - set(ROWS)):
        parser.error(f"--rows {','.join(unknown)}: there are {', '.join(ROWS)}")
    asked.keep.mkdir(parents=True, exist_ok=True)
    kept = Kept(asked.keep / f"{asked.problem}.jsonl")
    if asked.quick:
        names = ["tenth", "all", "reservoir", "history"]
    rows = [_row(asked.problem, name, kept, asked.quick) for name in names]
    emit("online", rows, _targets(asked.problem, rows), versions=("torch", "lightning"), threads=1)


class Kept:
    """Trainings in lines of JSON, each known by problem, row, rate and seed."""

    def __init__(self, path: Path):
        self._path = path
        lines = path.read_text().splitlines() if path.is_file() else []
        self._found = {self._key(line): line for line in map(json.loads, lines)}

    def get(self, problem: str, row: str, rate: float, seed: int) -> dict:
        about = {"problem": problem, "row": row, "rate": rate, "seed": seed}
        if self._key(about) not in self._found:
            result = about | _train(problem, row, rate, seed, self._path.parent)
            self._found[self._key(about)] = result
            with self._path.open("a") as file:
                file.write(json.dumps(result) + "\n")
            print(json.dumps(result), file=sys.stderr, flush=True)
        return self._found[self._key(about)]

    @staticmethod
    def _key(about: dict) -> tuple:
        return tuple(about[key] for key in ("problem", "row", "rate", "seed"))


def _train(name: str, row: str, rate: float, seed: int, keep: Path) -> dict:
    problem, settings = PROBLEMS[name], [f"optimizer.lr={rate}", f"seed={seed}", "name=online"]
    data = ROWS[row].data(problem)
    if ROWS[row].buffer is not None:
        data = ["data=replay", f"path={_recorded(name, row, keep)}"]
    chosen = [*data, *ROWS[row].overrides(problem), *settings]
    config, begin = composed(chosen), time.monotonic()
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        folder = RunFolder(Path(name))
        folder.write_config(config, chosen)
        with patch("sciml.run.write_report"):  # nobody reads it
            figures = run(config, folder)
        done = read_run(folder.path)
    errors = np.nanmean(next(iter(done.evaluation.results.values())).errors, axis=1)
    rollouts = next(iter(done.rollouts.values())).figures() if done.rollouts else {}
    return {
        "valid": float(done.curves["relative_l2"]["val"][1].min()),
        "mean": float(errors.mean()),
        "p99": float(np.quantile(errors, 0.99)),
        "steps": figures["steps"],
        "rollout": {key: float(value) for key, value in rollouts.items()},
        "seconds": time.monotonic() - begin,
    }


def _recorded(name: str, row: str, keep: Path) -> Path:
    """The folder of the stream of this row."""
    problem, settings = PROBLEMS[name], ROWS[row]
    start = "staggered" if settings.stagger else "together"
    folder = (keep / f"{name}-{settings.count(problem)}-{start}").absolute()
    if not folder.is_dir():
        made = folder.with_suffix(".part")
        shutil.rmtree(made, ignore_errors=True)
        chosen = [*settings.data(problem), *settings.overrides(problem), "name=online"]
        config = composed([*chosen, f"online.tee={made}"])
        dataset, shared = instantiate(config.data), {"epochs": 1, "seed": 0}
        size = problem.batch_size
        with contextlib.closing(
            instantiate(config.online, dataset=dataset, batch_size=size, **shared)
        ) as online:
            for _ in online.loader():
                pass
        made.rename(folder)
    return folder


def _row(problem: str, name: str, kept: Kept, quick: bool) -> dict:
    """The chosen rate and the errors of three seeds in percent."""
    rates = PROBLEMS[problem].rates
    if quick:
        best, seeds = rates[len(rates) // 2], SEEDS[:1]
    else:
        tried = {rate: kept.get(problem, name, rate, TUNING_SEED)["valid"] for rate in rates}
        best, seeds = min(tried, key=tried.get), SEEDS
    found = [kept.get(problem, name, best, seed) for seed in seeds]
    means, tails = ([100 * one[key] for one in found] for key in ("mean", "p99"))
    return {
        "row": name,
        "simulations": round(ROWS[name].share * PROBLEMS[problem].simulations),
        "steps": found[0]["steps"],
        "rate": best,
        "error, %": statistics.mean(means),
        "±": half_width(means),
        "p99, %": statistics.mean(tails),
        "± of p99": half_width(tails),
    }


def _targets(problem: str, rows: list[dict]) -> dict[str, Target]:
    error = {row["row"]: row["error, %"] for row in rows}
    tail = {row["row"]: row["p99, %"] for row in rows}
    targets, bars = {}, PROBLEMS[problem].bars
    if bars and {"tenth", "all", "reservoir"} <= error.keys():
        below, above = bars
        for name in ("reservoir", "history"):
            if name in error:
                ratios = error[name] / error["tenth"], error[name] / error["all"]
                targets[f"{problem}, {name} / a tenth"] = Target(ratios[0], 1 - below, "lower")
                targets[f"{problem}, {name} / all"] = Target(ratios[1], 1 + above, "lower")
    if {"history", "reservoir"} <= error.keys():
        mean, p99 = (part["history"] / part["reservoir"] for part in (error, tail))
        targets[f"{problem}, history / reservoir, mean"] = Target(mean, 1.0, "lower")
        targets[f"{problem}, history / reservoir, p99"] = Target(p99, 1.0, "lower")
    return targets


if __name__ == "__main__":
    main()
