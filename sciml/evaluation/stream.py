"""What streamed into a training, in words and figures: `stream.json` for the report."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sciml.evaluation.figures import COLOURS, drawn, small
from sciml.evaluation.page import count, number

LEFT_OUT = 20  # simulations that are listed


def section(record: Mapping[str, Any]) -> dict[str, Any]:
    """Names and values, and a table of the simulations that were left out."""
    now, uses = record["status"], np.array(record["uses"])
    evicted, k = uses.sum(), np.arange(len(uses))
    mean = float((uses * k).sum() / evicted) if evicted else float("nan")
    deviation = float(np.sqrt((uses * (k - mean) ** 2).sum() / evicted)) if evicted else 0.0
    engine = f"{record['engine']}, {record['clients']} clients"
    order = "frames in a fixed order" if record["ordered"] else "frames as they came"
    left_out = record["left_out"]
    unit, one, least = _units(record)
    holds = f"{count(record['capacity'])} {unit}"
    if least != one:
        holds += f" of {count(record['windows'])} {least}s each"
    rows = [
        ("Simulations", f"{count(now['done'])} of {count(now['simulations'])}"),
        (unit.capitalize(), f"{count(now['arrived'])} of {count(now['samples'])}"),
        ("Computed by", f"{engine}, {order}"),
        ("Buffer", f"{record['buffer']}, {holds}"),
        ("First step after", f"{count(record['watermark'])} {unit}"),
        ("Steps", f"{count(record['steps'])}, known before the start"),
        (f"Draws per {least}", f"{number(now['reuse'])} (planned {number(record['reuse'])})"),
        ("Parameters chosen by", record["sampler"]),
        ("Training waited", _share(now["waited"], now["seconds"])),
        ("Solvers waited", _share(now["idle"], now["busy"] + now["idle"])),
        ("Restarts", count(now["restarts"])),
        ("Left out", count(len(left_out))),
    ]
    if recording := record.get("recording"):
        rows.append(("Recorded", _recorded(recording)))
    if evicted:
        until = f"{number(mean)} ± {number(deviation)} until evicted"
        rows.insert(7, (f"Draws of a {one}", until))
    return {"rows": rows, "left_out": [_entry(one) for one in left_out[:LEFT_OUT]]}


def pictures(record: Mapping[str, Any]) -> list[tuple[bytes, str]]:
    """Figures with their captions."""
    if not record["curves"].get("batches"):
        return []
    return [
        (
            filling(record),
            "The stream: share of the simulations done, the buffer filled and unseen.",
        ),
        (waiting(record), "Time that the training and the solvers waited for each other."),
    ]


@drawn
def filling(record: Mapping[str, Any]) -> Figure:
    """Shares by step."""
    figure, axes = small()
    curves = {key: np.array(values) for key, values in record["curves"].items()}
    shown = {
        "simulations done": curves["done"] / curves["simulations"],
        "buffer filled": curves["fill"],
        "unseen in the buffer": curves["unseen"],
    }
    for colour, (label, share) in zip(COLOURS, shown.items(), strict=False):
        axes.plot(curves["batches"], 100 * share, color=colour, label=label)
    axes.set(xlabel="step", ylabel="share (%)", ylim=(0, 104))
    axes.legend(loc="best")
    return figure


@drawn
def waiting(record: Mapping[str, Any]) -> Figure:
    """Shares of the time between two notes, and samples per second."""
    figure, axes = small()
    curves = {key: np.array(values) for key, values in record["curves"].items()}
    steps, seconds = curves["batches"][1:], np.diff(curves["seconds"]).clip(1e-9)
    working = (np.diff(curves["busy"]) + np.diff(curves["idle"])).clip(1e-9)
    axes.plot(steps, 100 * np.diff(curves["waited"]) / seconds, color=COLOURS[0], label="training")
    axes.plot(steps, 100 * np.diff(curves["idle"]) / working, color=COLOURS[1], label="solvers")
    axes.set(xlabel="step", ylabel="share of time waited (%)", ylim=(0, 104))
    other = axes.twinx()
    other.plot(steps, np.diff(curves["arrived"]) / seconds, color=COLOURS[2], lw=1, ls=":")
    other.set(ylabel=f"{_units(record)[0]} per second (dotted)")
    other.set_ylim(bottom=0)
    axes.legend(loc="best")
    return figure


def _units(record: Mapping[str, Any]) -> tuple[str, str, str]:
    """What a buffer holds, several and one of it, and what is drawn from these."""
    if record.get("unit", "samples") == "samples":
        return "samples", "sample", "sample"
    return "trajectories", "trajectory", "window"


def _recorded(recording: Mapping[str, Any]) -> str:
    if recording["failure"]:
        return f"in part, the disk refused the rest: {recording['failure']}"
    return f"{'all' if recording['complete'] else 'as far as it came'}, in {recording['path']}"


def _share(part: float, whole: float) -> str:
    share = f"{100 * part / whole:.1f} % of the time" if whole > 0 else "not at all"
    return f"{share} ({part:.1f} s)"


def _entry(one: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Number, frame, parameters and reason."""
    parameters = ", ".join(f"{name} {value:.4g}" for name, value in one["parameters"].items())
    return str(one["simulation"]), str(one["frame"]), parameters, one["reason"]
