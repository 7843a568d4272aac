"""The tables of a report: errors by resolution and field, as rows of text."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sciml.evaluation.page import column, count
from sciml.evaluation.result import Evaluation, Result

# key in metrics.json: label, definition
MEASURES = {
    "relative_l2": (
        "Relative L2",
        "‖prediction − truth‖ / ‖truth‖ over the grid points, per sample and field; then the mean "
        "over samples, and for the headline over fields.",
    ),
    "relative_h1": (
        "Relative H1",
        "As relative L2, with ‖u‖² + ‖∇u‖² under the root; finite differences, one-sided at walls.",
    ),
    "vrmse": (
        "VRMSE",
        "Root of mean squared error over variance of the truth (The Well); 1 is as good as "
        "predicting the mean of the truth.",
    ),
    "nrmse": ("NRMSE", "Root of mean squared error over mean square of the truth (The Well)."),
    "nmse_low": (
        "NMSE low k",
        "Energy of the error over energy of the truth in the lowest of three logarithmic bands of "
        "wavenumbers (The Well); a cosine basis on axes with walls.",
    ),
    "nmse_mid": ("NMSE mid k", "The same in the middle band."),
    "nmse_high": ("NMSE high k", "The same in the highest band."),
    "relative_l2_resolved": (
        "Resolved",
        "Relative L2 error in the modes that the grid of training holds; its square and that of "
        "the next add up to that of the relative L2 error of a sample.",
    ),
    "relative_l2_beyond": ("Beyond", "The same in the modes that only the finer grid holds."),
    "truth_beyond": (
        "Truth beyond",
        "Size of the truth in those modes: the error of a prediction that is right in all modes of "
        "the grid of training and knows no others.",
    ),
    "max_error": (
        "Largest error",
        "Largest |prediction − truth| over points and samples, in the units of the field.",
    ),
}


def error_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Mean, median, 95 % quantile and worst in percent; quantiles are errors of actual samples."""
    rows, statistics = [], []
    for resolution, result in evaluation.results.items():
        for field, errors, total in by_field(evaluation, result):
            errors = 100 * np.sort(errors[~np.isnan(errors)])
            if len(errors) == 0:
                continue
            median, high = (errors[math.ceil(level * len(errors)) - 1] for level in (0.5, 0.95))
            statistics.append([errors.mean(), median, high, errors[-1]])
            row = {"resolution": typeset(resolution), "field": field, "total": total}
            rows.append(row | {"samples": count(len(errors))})
    texts = iter(column([value for row in statistics for value in row]))
    return [row | {"figures": [next(texts) for _ in range(4)]} for row in rows]


def measure_rows(evaluation: Evaluation, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The other figures of metrics.json, one row per resolution and field."""
    prefixes = [result.prefix for result in evaluation.results.values()]
    keys = [
        key
        for key in MEASURES
        if key != "relative_l2"
        and any(f"{p}/{key}/{field}" in metrics for p in prefixes for field in evaluation.fields)
    ]
    names, table = [], []
    for resolution, result in evaluation.results.items():
        for field in evaluation.fields:
            names.append({"resolution": typeset(resolution), "field": field})
            table.append([metrics.get(f"{result.prefix}/{key}/{field}") for key in keys])
    columns = [column(list(values)) for values in zip(*table, strict=True)]
    figures = zip(*columns, strict=True)  # nothing if there are no other measures
    rows = [name | {"figures": row} for name, row in zip(names, figures, strict=False)]
    return {"labels": [MEASURES[key][0] for key in keys], "rows": rows}


def remarks(evaluation: Evaluation, metrics: Mapping[str, Any]) -> list[str]:
    """What a reader must know to read the figures right."""
    remarks = []
    for resolution, result in evaluation.results.items():
        undefined = metrics.get(f"{result.prefix}/undefined", 0)
        diverged = metrics.get(f"{result.prefix}/diverged", 0)
        if undefined:
            remarks.append(
                f"{typeset(resolution)}: in {count(undefined)} case(s) the truth is zero "
                "everywhere: no relative error exists, they count in the largest error only."
            )
        if diverged:
            remarks.append(
                f"{typeset(resolution)}: the prediction of {count(diverged)} sample(s) is not "
                "finite; their error is infinite, and so is every mean that contains them."
            )
    return remarks


def by_field(evaluation: Evaluation, result: Result) -> list[tuple[str, np.ndarray, bool]]:
    """Errors by field, then, for several fields, the mean over the fields of each sample."""
    rows = [(name, result.errors[:, c], False) for c, name in enumerate(evaluation.fields)]
    if len(rows) == 1:
        return rows
    defined = ~np.isnan(result.errors)
    total = np.where(defined, result.errors, 0.0).sum(axis=1)
    mean = np.divide(
        total, defined.sum(axis=1), out=np.full(len(total), np.nan), where=defined.any(1)
    )
    return [*rows, ("mean over fields", mean, True)]


def typeset(text: str) -> str:
    """`permeability -> pressure on 64 x 64` and `64x64` with the proper signs."""
    sizes = text.split("x")
    if all(size.isdigit() for size in sizes):
        return " × ".join(sizes)
    return text.replace("->", "→").replace(" x ", " × ")
