"""Roll-outs in a report, as rows of text."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sciml.evaluation.page import column, count, number
from sciml.evaluation.rollout_errors import CORRELATED, RolloutErrors, half_width
from sciml.evaluation.tables import typeset


def rollout_rows(found: Mapping[str, RolloutErrors]) -> list[dict[str, Any]]:
    """Errors in percent at some frames, by resolution."""
    rows, statistics = [], []
    for resolution, rollouts in found.items():
        for mark in rollouts.marks:
            errors, still = rollouts.at(mark), rollouts.at(mark, "persistence")
            if not len(errors):
                continue
            figures = [errors.mean(), half_width(errors), np.median(errors), still.mean()]
            statistics.append([100 * value for value in figures])
            time, lost = rollouts.at(mark, "time").mean(), np.isinf(errors).sum()
            ends = [count(mark), number(time), count(len(errors)), count(lost)]
            rows.append({"resolution": typeset(resolution), "ends": ends})
    texts = iter(column([None if math.isnan(v) else v for row in statistics for v in row]))
    for row in rows:
        mean, width, median, still = (next(texts) for _ in range(4))
        *first, lost = row.pop("ends")
        interval = "–" if width == "–" else f"± {width}"
        row["figures"] = [*first, mean, interval, median, still, lost]
    return rows


def rollout_remarks(found: Mapping[str, RolloutErrors]) -> list[str]:
    """How long roll-outs stay correlated, and how many blew up."""
    remarks = []
    for resolution, rollouts in found.items():
        times, lasting = rollouts.correlation_times()
        width = half_width(times)
        text = (
            f"{typeset(resolution)}: the correlation with the truth stays at {CORRELATED} or more "
            f"up to time {number(times.mean())}"
        )
        text += "" if math.isnan(width) else f" ± {number(width)}"
        text += f", mean over {count(len(times))} roll-outs"
        if lasting.any():
            text += f"; {count(lasting.sum())} of them to their end, with which they count"
        remarks.append(f"{text}.")
        if rollouts.blown_up:
            remarks.append(
                f"{typeset(resolution)}: {count(rollouts.blown_up)} roll-out(s) blew up; their "
                "error is infinite from then on, and so is every mean that contains it."
            )
    return remarks
