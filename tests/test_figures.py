"""Measured figures in documents come from kept results, and from nothing else."""

import json

import pytest

from benchmarks import table
from benchmarks.acceptance import linear
from benchmarks.acceptance.figure import Figure, slope
from tests.helpers import ROOT

RECORD = {
    "name": "speed",
    "command": "python -m benchmarks.speed",
    "device": "a machine",
    "threads": 2,
    "versions": {"torch": "2"},
    "rows": [{"solver": "ours", "ms": 1.5}, {"solver": "theirs", "ms": 12345.6}],
    "targets": {
        "ratio": {"value": 2.0, "bar": 1.0, "better": "higher"},
        "error": {"value": 1e-3, "bar": 1e-4, "better": "lower"},
    },
}
MARKED = "a\n<!-- figures: {} -->\nold\n<!-- end of figures -->\nb\n"


@pytest.fixture
def results(tmp_path):
    (tmp_path / "speed.json").write_text(json.dumps(RECORD))
    other = RECORD | {"command": "python -m benchmarks.size", "rows": []}
    (tmp_path / "size.json").write_text(json.dumps(other))
    return tmp_path


def test_what_stood_between_the_marks_is_replaced(results):
    text = table.filled(MARKED.format("speed"), results)
    assert text.startswith(
        "a\n<!-- figures: speed -->\n`python -m benchmarks.speed` on a machine, "
    )
    assert text.endswith("<!-- end of figures -->\nb\n") and "old" not in text
    for line in (
        "| theirs | 12346 |",
        "| ratio | 2 | ≥ 1 | reached |",
        "| error | 0.001 | ≤ 0.0001 | **missed** |",
    ):
        assert f"\n{line}\n" in text
    assert table.filled(text, results) == text


def test_several_names_and_several_pairs_in_their_order(results):
    text = table.filled(MARKED.format("size speed") + MARKED.format("speed"), results)
    found = [line.split("`")[1] for line in text.splitlines() if line.startswith("`")]
    assert [name.rsplit(".")[-1] for name in found] == ["size", "speed", "speed"]


def test_a_name_without_a_result_says_so(results):
    text = table.filled(MARKED.format("weight"), results)
    assert "-->\nNot measured yet: weight.\n<!-- end" in text


def test_text_without_marks_stays(results):
    assert table.filled("no figures\n", results) == "no figures\n"


def test_a_mark_alone_is_refused(results):
    text = MARKED.format("speed")
    for broken, message in (
        (text.replace("<!-- end of figures -->\n", ""), "'figures: speed' has no line '<!-- end"),
        (text.replace("<!-- figures: speed -->\n", ""), "has no mark 'figures: NAME' before it"),
    ):
        with pytest.raises(ValueError, match=message):
            table.filled(broken, results)


def test_every_file_with_marks_is_filled(results, tmp_path, monkeypatch):
    root = tmp_path / "root"
    (root / "docs").mkdir(parents=True)
    files = [root / "README.md", root / "docs" / "x.md"]
    for file, name in zip(files, ("speed", "size"), strict=True):
        file.write_text(MARKED.format(name))
    monkeypatch.setattr(table, "ROOT", root)
    monkeypatch.setattr(table, "RESULTS", results)
    table.main()
    assert all("| ratio | 2 |" in file.read_text() for file in files)
    files[1].write_text("<!-- figures: speed -->\n")
    with pytest.raises(SystemExit, match=r"x\.md: the mark 'figures: speed'"):
        table.main()


@pytest.mark.parametrize(
    "settings, bar, verdict",
    [
        ({"value": 1e-3, "bar": 1e-2}, "≤ 0.01", "reached"),
        ({"value": 2e-2, "bar": 1e-2}, "≤ 0.01", "**missed**"),
        ({"value": float("nan"), "bar": 1e-2}, "≤ 0.01", "**missed**"),
        ({"value": 0.9, "bar": 0.8, "at_least": True}, "≥ 0.8", "reached"),
        ({"value": 2.31, "bar": 2, "within": 0.3}, "2 ± 0.3", "**missed**"),
        ({"value": 1.8, "bar": 2, "within": 0.3}, "2 ± 0.3", "reached"),
    ],
)
def test_a_figure_and_its_bar(settings, bar, verdict):
    row = Figure("heat", "exact", "error", **settings).row()
    assert (row["bar"], row[""]) == (bar, verdict)


def test_slopes():
    assert slope([5.0, 4.0, 1.0]) == pytest.approx(2)
    assert slope([16.0, 1.0], ratio=4) == pytest.approx(2)


@pytest.mark.parametrize("measure", linear.MEASUREMENTS, ids=lambda m: m.__name__)
def test_measurements_reach_their_bars(measure):
    """The fast ones; the others are other tests with the same set-ups."""
    figures = list(measure())
    assert figures and all(figure.reached for figure in figures), figures


def test_the_page_names_every_equation_that_is_measured():
    page = (ROOT / "docs" / "solvers.md").read_text().partition("## Measured")[0]
    record = json.loads((table.RESULTS / "accuracy.json").read_text())
    for name in {row["equation"] for row in record["rows"]} - {"Gradients"}:
        assert f"\n| {name} |" in page, name
