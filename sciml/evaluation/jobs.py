"""The jobs of a sweep, read from their folders, and statistics over seeds.

A job is a numbered folder with `overrides.json` and, once it ended, `metrics.json`; without the
latter it was interrupted. Imports neither torch nor Lightning.
"""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

DATA = ("data", "path", "input", "target", "experiment")  # what chooses the data
METHODS = ("curvature", "optimizer")  # groups that a model or a task may choose


@dataclass(frozen=True)
class Job:
    """One job of a sweep; `error` is the class and the first line, `figures` is metrics.json."""

    number: str
    folder: Path
    status: str
    overrides: Mapping[str, str]
    figures: Mapping[str, Any]
    error: str
    log: Path | None

    @property
    def test_error(self) -> float | None:
        """The relative L2 error on the data's own grid, else on the first other one."""
        keys = [key for key in self.figures if key.endswith("/relative_l2")]
        key = "test/relative_l2" if "test/relative_l2" in keys else next(iter(keys), None)
        return self.figures[key] if key is not None and self.status == "completed" else None


@dataclass(frozen=True)
class Group:
    """Jobs that differ in the seed only: mean, standard deviation and 95 % interval of the mean.

    `n` counts the jobs with a finite test error, `jobs` all. With n < 2 there is no deviation and
    no interval; else the interval is mean -+ t s / sqrt(n) with Student's t of n - 1 degrees of
    freedom and s the sample standard deviation (n - 1 in the denominator).
    """

    overrides: Mapping[str, str]
    jobs: int
    n: int
    mean: float | None
    std: float | None
    half_width: float | None


def read_sweep(folder: Path) -> list[Job]:
    """All jobs below the folder of a multirun, by number."""
    folders = [
        path
        for path in Path(folder).iterdir()
        if path.is_dir() and (path.name.isdigit() or (path / "overrides.json").exists())
    ]
    if not folders:
        raise ValueError(f"{folder} holds no job folders (0, 1, ...); give the folder of a sweep.")
    order = sorted(folders, key=lambda path: (not path.name.isdigit(), len(path.name), path.name))
    return _with_methods([_read_job(path) for path in order])


def differing(jobs: list[Job]) -> list[str]:
    """Names of the overrides that are not the same in all jobs, in order of appearance."""
    names = dict.fromkeys(name for job in jobs for name in job.overrides)
    return [name for name in names if len({job.overrides.get(name) for job in jobs}) > 1]


def best_jobs(jobs: list[Job]) -> dict[str, Job]:
    """By data set the job with the lowest finite test error, of equal ones the first: errors on
    different data say nothing about each other.
    """
    best: dict[str, Job] = {}
    for job in jobs:
        name = data_of(job.overrides)
        if is_finite(job.test_error) and (
            name not in best or job.test_error < best[name].test_error
        ):
            best[name] = job
    return best


def data_of(overrides: Mapping[str, str]) -> str:
    """The overrides that choose the data, as they were typed."""
    return " ".join(f"{name}={overrides[name]}" for name in DATA if name in overrides)


def groups(jobs: list[Job]) -> list[Group]:
    """Statistics over seeds, best mean of each data set first; empty unless `seed` differs between
    jobs.
    """
    names = differing(jobs)
    if "seed" not in names:
        return []
    collected = defaultdict(list)
    for job in jobs:
        collected[tuple((n, job.overrides.get(n, "")) for n in names if n != "seed")].append(job)
    found = [_group(dict(overrides), members) for overrides, members in collected.items()]
    order = list(dict.fromkeys(data_of(group.overrides) for group in found))
    return sorted(
        found,
        key=lambda group: (
            order.index(data_of(group.overrides)),
            math.inf if group.mean is None else group.mean,
        ),
    )


def is_finite(error: float | None) -> bool:
    return error is not None and math.isfinite(error)


def _read_job(folder: Path) -> Job:
    figures: dict[str, Any] = {}
    if (folder / "metrics.json").exists():
        figures = json.loads((folder / "metrics.json").read_text())
    overrides = folder / "overrides.json"
    parts = json.loads(overrides.read_text()) if overrides.exists() else []
    return Job(
        folder.name,
        folder,
        figures.get("status", "interrupted"),
        dict(_parse(part) for part in parts),
        figures,
        figures.get("error", "").strip().partition("\n")[0],
        next(iter(sorted(folder.glob("*.log"))), None),
    )


def _with_methods(jobs: list[Job]) -> list[Job]:
    """The jobs with the `curvature` and the `optimizer` that their model or task chose where nobody
    did, so that a table shows where jobs differ in them.
    """
    chosen = [_choices(job.folder / "choices.json") for job in jobs]
    for group in METHODS:
        names = [choices.get(group) for choices in chosen]
        if None not in names and len(set(names)) > 1:
            jobs = [
                replace(job, overrides={**job.overrides, group: job.overrides.get(group, name)})
                for job, name in zip(jobs, names, strict=True)
            ]
    return jobs


def _choices(path: Path) -> dict[str, str | None]:
    """What a run wrote of the choices of its groups."""
    return json.loads(path.read_text()) if path.is_file() else {}


def _parse(override: str) -> tuple[str, str]:
    """`+optimizer.lr=1e-3` -> (`optimizer.lr`, `1e-3`); `~trainer.logger` is a removal."""
    name, _, value = override.partition("=")
    return name.lstrip("+~"), "removed" if name.startswith("~") else value


def _group(overrides: Mapping[str, str], jobs: list[Job]) -> Group:
    errors = [job.test_error for job in jobs if is_finite(job.test_error)]
    n = len(errors)
    mean = statistics.fmean(errors) if n else None
    std = statistics.stdev(errors) if n > 1 else None
    half_width = float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n) if n > 1 else None
    return Group(overrides, len(jobs), n, mean, std, half_width)
