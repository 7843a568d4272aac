"""What every benchmark prints: a table for people, and as its last line one JSON object for
scripts.
"""

import json
import math
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from sciml.runtime.run_folder import environment


@dataclass(frozen=True)
class Target:
    """A figure and the bar it is held against; `better` is "higher" or "lower"."""

    value: float
    bar: float
    better: str

    @property
    def reached(self) -> bool:
        return self.value >= self.bar if self.better == "higher" else self.value <= self.bar


def emit(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    targets: Mapping[str, Target],
    *,
    versions: Sequence[str] = ("torch", "numpy"),
    threads: int | None = None,
) -> None:
    """Print rows and targets as tables, then the JSON line."""
    about = environment("cpu")
    console = Console(width=120)
    if rows:
        console.print(_table(name, rows))
    held = [
        {
            "target": what,
            "value": t.value,
            "bar": f"{'≥' if t.better == 'higher' else '≤'} {t.bar:g}",
            "": "reached" if t.reached else "missed",
        }
        for what, t in targets.items()
    ]
    if held:
        console.print(_table("targets", held))
    record = {
        "name": name,
        "command": shlex.join(["python", "-m", f"benchmarks.{name}", *map(_named, sys.argv[1:])]),
        "device": about["machine"]["processor"],
        "cores": about["machine"]["cores"],
        "threads": threads or about["machine"]["threads"],
        "versions": {k: about["versions"].get(k) or version(k) for k in ("python", *versions)},
        "rows": list(rows),
        "targets": {what: vars(t) for what, t in targets.items()},
    }
    print(json.dumps(record))


def _named(argument: str) -> str:
    """A path from the root by its last part: where files lie is this machine's business."""
    return Path(argument).name if argument.startswith("/") else argument


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in rows[0]:
        number = is_numeric([row[column] for row in rows])
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(cell(value) for value in row.values()))
    return table


def half_width(values: Sequence[float]) -> float | None:
    """Of the 95 % t-interval of their mean; None for a single value, and with an infinite one."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    spread = student.ppf(0.975, len(values) - 1) * statistics.stdev(values)
    return float(spread) / len(values) ** 0.5


def is_numeric(column: Sequence[object]) -> bool:
    """Whether a column of a table holds numbers; None is a figure that does not apply."""
    return all(isinstance(value, int | float | None) for value in column)


def cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
