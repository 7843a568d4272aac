"""The table over the jobs of a sweep: what differed, what came out, what failed and where to look.

Imports neither torch nor Lightning: it is printed by the process that starts the jobs.
"""

import csv
import io
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from datasets.store import commit
from sciml.evaluation.jobs import (
    Group,
    Job,
    best_jobs,
    data_of,
    differing,
    groups,
    is_finite,
    read_sweep,
)
from sciml.evaluation.page import column, count, duration, number, render

COLOURS = {"completed": "green", "failed": "red", "interrupted": "yellow"}
NUMBERS = ("test error (%)", "wall time", "parameters")


def sweep_table(folder: Path) -> Table:
    """The table for the terminal, the best job of each data set bold with a star; below it the
    means over seeds.
    """
    jobs = read_sweep(folder)
    header, rows = _job_table(jobs, Path(folder))
    names, best = differing(jobs), best_jobs(jobs).values()
    table = Table(title=f"Sweep {folder}", title_justify="left", box=box.SIMPLE_HEAD)
    for name in header:
        table.add_column(
            Text(name), justify="right" if name in NUMBERS else "left", overflow="fold"
        )
    for job, row in zip(jobs, rows, strict=True):
        cells = [Text(cell) for cell in row]  # not markup: an override may hold brackets
        cells[1 + len(names)].stylize(COLOURS.get(job.status, ""))
        if job in best:
            cells[0].append(" *")
        table.add_row(*cells, style="bold" if job in best else None)
    table.add_section()
    for group, figures in zip(groups(jobs), _group_figures(groups(jobs)), strict=True):
        n, mean, deviation, _ = figures
        values = ["" if name == "seed" else group.overrides[name] for name in names]
        error = f"{mean} ± {deviation}" if group.std is not None else mean
        table.add_row("mean", *map(Text, values), f"n = {n}", error)
    return table


def write_sweep_report(folder: Path) -> Path:
    """Write `sweep.csv`, `sweep.json` and `sweep.html` into `folder`; returns the page's path."""
    folder = Path(folder)
    jobs = read_sweep(folder)
    names, best, seeds = differing(jobs), best_jobs(jobs).values(), groups(jobs)
    first = {data_of(group.overrides): group for group in reversed(seeds)}.values()
    records = [_record(job, names, folder) for job in jobs]
    content = {
        "best": [job.number for job in best],
        "jobs": records,
        "groups": [asdict(group) for group in seeds],
    }
    commit(folder / "sweep.json", json.dumps(content, indent=2, allow_nan=False).encode())
    commit(folder / "sweep.csv", _csv(records, names).encode())
    header, rows = _job_table(jobs, folder)
    others = [name for name in names if name != "seed"]
    page = {
        "name": folder.name,
        "headline": _headline(jobs),
        "numbers": NUMBERS,
        "header": header,
        "rows": [
            {"cells": row, "status": job.status, "best": job in best}
            for job, row in zip(jobs, rows, strict=True)
        ],
        "group_names": others,
        "groups": [
            {
                "overrides": [group.overrides[name] for name in others],
                "figures": figures,
                "best": any(group is one for one in first),
            }
            for group, figures in zip(seeds, _group_figures(seeds), strict=True)
        ],
    }
    commit(folder / "sweep.html", render("sweep.html.j2", page).encode())
    return folder / "sweep.html"


def _group_figures(found: list[Group]) -> list[tuple[str, str, str, str]]:
    """n, mean, standard deviation and interval of every group as text, errors in percent."""
    means = column([None if g.mean is None else 100 * g.mean for g in found])
    rows = []
    for group, mean in zip(found, means, strict=True):
        n = str(group.n) if group.n == group.jobs else f"{group.n} of {group.jobs}"
        deviation, interval = "–", "–"
        if group.std is not None:
            decimals = len(mean.partition(".")[2])
            deviation = f"{100 * group.std:.{decimals}f}"
            ends = (group.mean - group.half_width, group.mean + group.half_width)
            interval = " to ".join(f"{100 * end:.{decimals}f}" for end in ends)
        rows.append((n, mean, deviation, interval))
    return rows


def _job_table(jobs: list[Job], folder: Path) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table; the last column is there only if a job did not complete."""
    names, incomplete = differing(jobs), [job for job in jobs if job.status != "completed"]
    errors = column([None if e is None else 100 * e for e in (job.test_error for job in jobs)])
    rows = []
    for job, error in zip(jobs, errors, strict=True):
        wall, parameters = job.figures.get("wall_s"), job.figures.get("parameters")
        row = [job.number, *(job.overrides.get(name, "–") for name in names), job.status, error]
        row.append("–" if wall is None else duration(wall))
        row.append("–" if parameters is None else count(parameters))
        if incomplete:
            where = f"see {job.log.relative_to(folder)}" if job.log else f"see {job.number}/"
            row.append("" if job not in incomplete else "; ".join(filter(None, (job.error, where))))
        rows.append(row)
    header = ["job", *names, "status", *NUMBERS, *["error"] * bool(incomplete)]
    return header, rows


def _record(job: Job, names: list[str], folder: Path) -> dict[str, Any]:
    """A job as plain values; an infinite error becomes None, for JSON knows no infinity."""
    return {
        "job": job.number,
        "overrides": {name: job.overrides.get(name) for name in names},
        "status": job.status,
        "test_error": job.test_error if is_finite(job.test_error) else None,
        "wall_s": job.figures.get("wall_s"),
        "parameters": job.figures.get("parameters"),
        "error": job.error,
        "log": str(job.log.relative_to(folder)) if job.log else None,
    }


def _csv(records: list[dict[str, Any]], names: list[str]) -> str:
    text = io.StringIO()
    flat = [record | record["overrides"] for record in records]
    rest = [key for key in records[0] if key not in ("job", "overrides")]
    writer = csv.DictWriter(text, ["job", *names, *rest], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _headline(jobs: list[Job]) -> str:
    numbers = Counter(job.status for job in jobs)
    text = f"{len(jobs)} jobs: " + ", ".join(f"{n} {status}" for status, n in numbers.items())
    best = best_jobs(jobs)
    if not best:
        return f"{text}. No job has a test error."
    sentences = [f"{text}."]
    for data, job in best.items():
        settings = ", ".join(f"{name}={job.overrides.get(name, '–')}" for name in differing(jobs))
        error = f"{number(100 * job.test_error)} % mean relative L2 error on test samples"
        which = f"Best for {data}" if len(best) > 1 else "Best"
        sentences.append(f"{which} is job {job.number} ({settings}) with {error}.")
    return " ".join(sentences)


if __name__ == "__main__":
    Console().print(sweep_table(Path(sys.argv[1])))
    print(write_sweep_report(Path(sys.argv[1])))
