"""Test errors of runs side by side: `compare.json` for the report and the terminal."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datasets.store import commit
from sciml.evaluation.page import count, duration, number
from sciml.evaluation.run_folder import COMPARE, read_run

NOTE = (
    "All runs were given the same validation and test samples and the same number of steps where "
    "the table says so; one seed each, so small differences mean nothing "
    "(python -m benchmarks.online repeats them with three)."
)


def write_comparison(folder: Path, paths: Mapping[str, Path]) -> list[str]:
    """Write `compare.json` into the folder of a run: figures of the runs in `paths` by name, their
    folders relative to it. Returns a line for each.
    """
    rows = [
        {"name": name, "folder": str(path.relative_to(folder)), **_figures(path)}
        for name, path in paths.items()
    ]
    commit(folder / COMPARE, json.dumps({"rows": rows}).encode())
    width = max(len(row["name"]) for row in rows)
    return [
        f"{row['name'].replace('_', ' '):{width}}  {100 * row['relative_l2']:6.2f} %  "
        f"p99 {100 * row['p99']:6.2f} %  {row['simulations']} simulations  {row['steps']} steps"
        for row in rows
    ]


def section(record: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of the table, the run itself first."""
    if not record:
        return {"rows": []}
    first = record["rows"][0]["relative_l2"]
    rows = []
    for row in record["rows"]:
        errors = [number(100 * row[key]) for key in ("relative_l2", "median", "p99")]
        sizes = [count(row["simulations"]), count(row["steps"]), duration(row["train_s"])]
        link = "" if row["folder"] == "." else f"{row['folder']}/report.html"
        ratio = number(row["relative_l2"] / first) if first else ""
        rows.append(
            {
                "name": row["name"].replace("_", " "),
                "link": link,
                "figures": [*sizes, *errors, ratio],
            }
        )
    return {"rows": rows, "notes": [NOTE]}


def _figures(folder: Path) -> dict[str, Any]:
    run = read_run(folder)
    errors = np.nanmean(next(iter(run.evaluation.results.values())).errors, axis=1)
    streamed = run.stream.get("status", {})
    return {
        "relative_l2": float(errors.mean()),
        "median": float(np.median(errors)),
        "p99": float(np.quantile(errors, 0.99)),
        "simulations": int(streamed.get("done", run.about["data"]["splits"]["train"])),
        "steps": int(run.metrics["steps"]),
        "train_s": run.metrics["train_s"],
    }
