"""Influence of training samples in words: `influence.json` for the report and the terminal.

What is in the file is told by `sciml.curvature.attribute`.
"""

from collections.abc import Mapping
from typing import Any

from sciml.evaluation.page import count, number

INFLUENCE = "influence.json"
FIGURE = "queries"  # its name in the folder `influence`
PANELS, LISTED = 8, 20  # queries in the figure, and in tables
SPARSE = 0.5  # share of the parameters in blocks below which a note says so
COLUMNS = ("Test sample", "Error", "Loss", "Helped", "Score", "Share", "Hurt", "Score")
MEANING = (
    "A score estimates, to first order, by how much the loss on the test sample would grow if the "
    "training sample were left out: those with positive scores helped, those with negative ones "
    "hurt [Koh & Liang 2017, arXiv:1703.04730]. Share: of the sum of all positive scores, up to "
    "this row; a small one says that the prediction hangs on many samples.",
    "Read the order, not the size. The curvature is a damped Gauss-Newton matrix in Kronecker "
    "factors [Grosse et al. 2023, arXiv:2308.03296], and the network is not at a minimum of its "
    "loss, so training again without a sample changes the loss by another amount. The scores are "
    "those of this training; another seed leads to other errors, and other samples behind them.",
    "Nothing in the run was chosen by these test samples. Whoever changes data or settings on "
    "account of them needs other samples to test on.",
)
DRAWN = (
    "Samples that were not drawn have no score; the others have that of a training on them alone."
)


def summary(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values, a line each."""
    samples, whole = record["samples"], record["train_samples"]
    among = f"all {count(whole)} training samples"
    if samples < whole:
        among = f"{count(samples)} of {count(whole)} training samples, drawn with seed "
        among += str(record["seed"])
    return [
        ("Weights", f"{record['checkpoint']}, after {count(record['step'])} steps"),
        ("Samples", among),
        ("Curvature", f"{record['coverage']}; damping {record['damping']:g}"),
    ]


def notes(record: Mapping[str, Any]) -> list[str]:
    """What a reader must know to read the scores right."""
    found = list(MEANING)
    if record["samples"] < record["train_samples"]:
        found.append(DRAWN)
    if record["share"] < SPARSE:
        found.append(
            "Less than half of the parameters lie in Kronecker blocks. For the others the "
            "curvature is taken as diagonal, and the order is less certain."
        )
    if len(record["queries"]) > LISTED:
        found.append(
            f"The first {LISTED} of {len(record['queries'])} test samples; all are in {INFLUENCE}."
        )
    if record["failures"]:
        found.append(f"The curvature of {', '.join(record['failures'])} could not be computed.")
    return found


def rows(record: Mapping[str, Any]) -> list[list[str]]:
    """`COLUMNS` as text: a row for each rank, the first one of a query names it."""
    found = []
    for query in record["queries"][:LISTED]:
        helped, hurt, share = query["helped"], query["hurt"], 0.0
        name = [str(query["number"]), f"{number(100 * query['error'])} %", number(query["loss"])]
        for rank in range(max(len(helped), len(hurt), 1)):
            row = name if rank == 0 else [""] * len(name)
            if rank < len(helped):
                share += helped[rank]["share"]
                row = [*row, *_scored(helped[rank]), f"{number(100 * share, 2)} %"]
            else:
                row = [*row, "–", "", ""]
            found.append([*row, *(_scored(hurt[rank]) if rank < len(hurt) else ("–", ""))])
    return found


def section(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the template of a report shows."""
    return {
        "summary": summary(record),
        "columns": COLUMNS,
        "rows": rows(record),
        "notes": notes(record),
    }


def caption(record: Mapping[str, Any]) -> str:
    """Of the figure."""
    text = (
        "Test samples, the error prediction − truth, and the inputs of the training samples that "
        "have helped the prediction most, the first of them "
    )
    text += "first in the legend" if record["ndim"] == 1 else "on the left"
    more = {1: "; dotted: the input of the test sample", 3: ", all on the mid-plane"}
    text += more.get(record["ndim"], "") + "."
    if len(record["queries"]) > PANELS:
        text += f" The first {PANELS} of {len(record['queries'])}."
    if len({query["field"] for query in record["queries"]}) > 1:
        text += " Of each test sample, the field with the largest error."
    return text


def _scored(sample: Mapping[str, Any]) -> tuple[str, str]:
    return str(sample["number"]), number(sample["score"], 2)
