"""All problems and methods of `benchmarks.curvature_gain` in one table.

    python -m benchmarks.gain_summary

Test errors after equal seconds over those of AdamW, means of three seeds, from the kept results
`curvature_gain_PROBLEM.json`; an empty cell is a pair that was not run, inf one that diverged in
every trial. Intervals stand in the tables of the problems.
"""

import argparse
import json

from benchmarks.gain_problems import PROBLEMS, TRIALS
from benchmarks.result import emit
from benchmarks.table import RESULTS


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    files = {problem: RESULTS / f"curvature_gain_{problem}.json" for problem in PROBLEMS}
    found = {p: json.loads(f.read_text())["rows"] for p, f in files.items() if f.is_file()}
    methods = [
        m for m in TRIALS if any(row["method"] == m for rows in found.values() for row in rows)
    ]
    emit("gain_summary", [line(p, rows, methods) for p, rows in found.items()], {}, threads=1)


def line(problem: str, rows: list[dict], methods: list[str]) -> dict:
    errors = {row["method"]: row["test, %"] for row in rows}
    base = errors["adamw"]
    ratios = {m: errors[m] / base if m in errors else None for m in methods if m != "adamw"}
    return {
        "problem": problem,
        "adamw, %": base,
        **ratios,
        "lowest": min(errors, key=errors.get),
    }


if __name__ == "__main__":
    main()
