"""The measured figures in README.md and docs/*.md, from the JSON lines of the benchmarks.

`python -m benchmarks.NAME | tee /dev/stderr | tail -n 1 > benchmarks/results/NAME.json` keeps a
result. `python -m benchmarks.table` writes the kept results NAME .. between every pair of lines

    <!-- figures: NAME [NAME ...] -->
    <!-- end of figures -->

of these files; for a name without a result, that it has not been measured yet.
"""

import json
import re
from pathlib import Path

from benchmarks.result import Target, cell, is_numeric
from sciml.runtime.run_folder import ROOT

RESULTS = Path(__file__).parent / "results"
START, END = re.compile(r"<!-- figures: ([\w ]+) -->\n"), "<!-- end of figures -->\n"


def main() -> None:
    for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = file.read_text()
        try:
            after = filled(text, RESULTS)
        except ValueError as error:
            raise SystemExit(f"{file.name}: {error}") from None
        if after != text:
            file.write_text(after)
            print(f"{file.relative_to(ROOT)} written")


def filled(text: str, results: Path) -> str:
    """`text` with the results between its marks; whatever stood there is replaced.

    Raises ValueError for a mark without its end.
    """
    pieces = START.split(text)  # before, names, after, names, after ..
    done = [pieces[0]]
    for names, rest in zip(pieces[1::2], pieces[2::2], strict=True):
        _, end, after = rest.partition(END)
        if not end:
            raise ValueError(f"the mark 'figures: {names}' has no line '{END.strip()}' after it.")
        sections = [_kept(name, results) for name in names.split()]
        done += [f"<!-- figures: {names} -->\n", "\n".join(sections), END, after]
    if sum(piece.count(END) for piece in pieces) != len(pieces) // 2:
        raise ValueError(f"a line '{END.strip()}' has no mark 'figures: NAME' before it.")
    return "".join(done)


def _kept(name: str, results: Path) -> str:
    file = results / f"{name}.json"
    if not file.exists():
        return f"Not measured yet: {name}.\n"
    return section(json.loads(file.read_text()))


def section(record: dict) -> str:
    """One result as Markdown: the command, the machine, what was measured, a line per target."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    threads = f"{record['threads']} thread{'s' * (record['threads'] != 1)}"
    lines = [
        f"`{record['command']}` on {record['device']}, {threads}, {versions}:",
        "",
        *_rows(record["rows"]),
    ]
    if record["targets"]:
        lines += ["", "| figure | measured | bar | |", "|---|---:|---:|---|"]
    for what, values in record["targets"].items():
        target = Target(**values)
        sign = "≥" if target.better == "higher" else "≤"
        verdict = "reached" if target.reached else "**missed**"
        lines.append(f"| {what} | {target.value:.4g} | {sign} {target.bar:g} | {verdict} |")
    return "\n".join(lines) + "\n"


def _rows(rows: list[dict]) -> list[str]:
    if not rows:
        return []
    numeric = [is_numeric([row[column] for row in rows]) for column in rows[0]]
    lines = [[*rows[0]], ["---:" if number else "---" for number in numeric]]
    lines += [[_text(value) for value in row.values()] for row in rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _text(value: object) -> str:
    if isinstance(value, float) and value >= 1000:
        return f"{value:.0f}"
    return cell(value)


if __name__ == "__main__":
    main()
