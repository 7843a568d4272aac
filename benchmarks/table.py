"""The table of measured figures in README.md, from the JSON lines of the benchmarks.

`python -m benchmarks.NAME | tee /dev/stderr | tail -n 1 > benchmarks/results/NAME.json` keeps a
result; `python -m benchmarks.table` writes all kept results into README.md between its two
`figures` marks.
"""

import json
from pathlib import Path

from benchmarks.result import Target
from sciml.runtime.run_folder import ROOT

RESULTS = Path(__file__).parent / "results"
MARKS = "<!-- figures: python -m benchmarks.table -->\n", "<!-- end of figures -->\n"


def main() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, rest = text.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    records = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    readme.write_text(before + MARKS[0] + "\n".join(map(section, records)) + MARKS[1] + after)


def section(record: dict) -> str:
    """One result as Markdown: the command, the machine, what was measured, a line per target."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    lines = [
        f"`{record['command']}` on {record['device']}, {record['threads']} threads, {versions}:",
        "",
        *_rows(record["rows"]),
        "",
        "| figure | measured | bar | |",
        "|---|---:|---:|---|",
    ]
    for what, values in record["targets"].items():
        target = Target(**values)
        sign = "≥" if target.better == "higher" else "≤"
        verdict = "reached" if target.reached else "**missed**"
        lines.append(f"| {what} | {target.value:.4g} | {sign} {target.bar:g} | {verdict} |")
    return "\n".join(lines) + "\n"


def _rows(rows: list[dict]) -> list[str]:
    if not rows:
        return []
    numeric = [isinstance(value, int | float) for value in rows[-1].values()]
    lines = [[*rows[0]], ["---:" if number else "---" for number in numeric]]
    lines += [[_text(value) for value in row.values()] for row in rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _text(value: object) -> str:
    if isinstance(value, float) and value >= 1000:
        return f"{value:.0f}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
