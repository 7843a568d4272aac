"""Which training samples a prediction hangs on, for the report of a run:

    python -m sciml.curvature.attribute ckpt_path=runs/.../checkpoints/best.ckpt

Scores training samples by their influence on the loss of predictions on test samples (`Influence`).
Writes `influence.json`, a figure in the folder `influence`, and the report of the run anew;
`--help` lists the settings. In the file:

checkpoint, step, seed, damping, passes, draws (of noise), precision, seconds
numbers          [samples] training samples that were scored, by their number in the training split
samples          how many, of `train_samples`
coverage, share  of the parameters in Kronecker blocks; `failures` of these by name
ndim             of space
queries          by test sample: number, loss, error (relative L2, mean over fields), `field` with
                 the largest one; scores [samples]; helped, hurt: number, score and share of the sum
                 of the scores of that sign, the largest first; carried, the share of all `helped`
"""

import math
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from datasets.command_line import guarded
from datasets.schema import Source
from sciml.curvature.influence import Influence
from sciml.evaluation.influence import COLUMNS, FIGURE, INFLUENCE, PANELS, notes, rows, summary
from sciml.evaluation.influence_figure import SHOWN, query_panels
from sciml.evaluation.queries import chosen, fields
from sciml.evaluation.result import Evaluation
from sciml.gauss_newton import Expansion
from sciml.runtime.run_command import (
    Findings,
    drawn,
    in_precision,
    moved,
    opened,
    placed,
    report,
    require_counts,
    require_switches,
    show,
)
from sciml.tasks.task import Task

LEAST = {"samples": 2, "passes": 1, "top": 1, "seed": 0, "batch_size": 1, "threads": 1}
LEAST_DAMPING = 1e-9  # with less, rounding decides
OPTIONAL = ("samples", "batch_size", "threads")


def attribute(asked: DictConfig) -> Findings:
    """What is told above. ValueError for what a user can mend."""
    start = time.monotonic()
    _require_settings(asked)
    run = opened(asked)
    train, test = (run.dataset.source(split) for split in ("train", "test"))
    _require_there(asked, len(test))
    task, like = placed(run.task, asked.double)
    size = asked.batch_size or run.config.batch_size
    numbers, losses = drawn(train, asked.samples, asked.seed), []
    status = Console(stderr=True).status("errors of test samples")
    with status:
        with in_precision(asked.double):
            queries, errors = chosen(task, test, asked.queries, like=like, batch_size=size)
        status.update(f"curvature on {len(numbers)} training samples")
        influence = _influence(task, train, numbers, like, asked, size)
        status.update(f"gradients of {len(numbers)} training samples")
        scores = influence.scores(_expansions(task, test, queries, like, losses)).cpu().double()
    if not scores.isfinite().all():
        raise ValueError(
            f"{asked.ckpt_path}: gradients of training samples are not finite, nor are scores."
        )
    evaluation = Evaluation.from_metadata(task.metadata, {})
    channels = np.nanargmax(errors, axis=1).tolist()
    found = [
        {
            "number": number,
            "loss": loss,
            "error": float(np.nanmean(error)),
            "field": evaluation.fields[channel],
            **_ranked(row, numbers, asked.top),
        }
        for number, loss, error, channel, row in zip(
            queries, losses, errors, channels, scores, strict=True
        )
    ]
    pictured = found[:PANELS]
    helpers = [[sample["number"] for sample in query["helped"][:SHOWN]] for query in pictured]
    inputs = [train.__getitems__(h or [0]).input[: len(h)].numpy() for h in helpers]
    figure = query_panels(
        evaluation,
        fields(task, test, queries[:PANELS], like),
        channels[:PANELS],
        list(zip(helpers, inputs, strict=True)),
    )
    record = {
        "checkpoint": Path(asked.ckpt_path).name,
        "step": run.checkpoint["global_step"],
        "samples": len(numbers),
        "train_samples": len(train),
        "seed": asked.seed,
        "damping": asked.damping,
        "passes": asked.passes,
        "draws": influence.draws,
        "precision": str(like.dtype).removeprefix("torch."),
        "coverage": influence.curvature.coverage.summary(),
        "share": influence.curvature.coverage.share,
        "failures": influence.curvature.failures,
        "ndim": task.metadata.ndim,
        "queries": found,
        "numbers": numbers,
        "seconds": time.monotonic() - start,
    }
    return Findings(run.folder, INFLUENCE, record, {FIGURE: figure})


def _require_settings(asked: DictConfig) -> None:
    require_counts(asked, LEAST, OPTIONAL)
    require_switches(asked, "double")
    if type(asked.damping) not in (int, float) or not LEAST_DAMPING <= asked.damping < math.inf:
        raise ValueError(f"damping={asked.damping} must be a number of at least {LEAST_DAMPING}.")
    queries = asked.queries
    listed = list(queries) if OmegaConf.is_list(queries) else [queries]
    least = 0 if OmegaConf.is_list(queries) else 1
    whole = all(type(number) is int and number >= least for number in listed)
    if not whole or not listed or len(set(listed)) < len(listed):
        raise ValueError(
            f"queries={queries} must be a whole number, at least 1, or different numbers of test "
            "samples, such as [0,5,9]."
        )


def _require_there(asked: DictConfig, count: int) -> None:
    if OmegaConf.is_list(asked.queries) and max(asked.queries) >= count:
        raise ValueError(
            f"queries={asked.queries}: there are {count} test samples, numbered 0 to {count - 1}."
        )


def _influence(
    task: Task, source: Source, numbers: list[int], like: Tensor, asked: DictConfig, size: int
) -> Influence:
    """Of the training loss; what is random in it is drawn once for each batch."""

    def expand(rows: Sequence[int]) -> Expansion:
        batch = moved(source.__getitems__([numbers[row] for row in rows]), like)
        with torch.random.fork_rng():
            torch.manual_seed(asked.seed + rows[0])
            return task.expand(batch)

    with torch.random.fork_rng(), warnings.catch_warnings():
        torch.manual_seed(asked.seed)
        warnings.filterwarnings("ignore", "curvature")  # `coverage` and `failures` say it too
        return Influence(
            task.model,
            expand,
            len(numbers),
            damping=asked.damping,
            batch_size=size,
            passes=asked.passes,
        )


def _expansions(
    task: Task, source: Source, numbers: list[int], like: Tensor, losses: list[float]
) -> Iterator[Expansion]:
    """The loss of what the task predicts, one sample after the other; values go to `losses`."""
    for number in numbers:
        batch = moved(source.__getitems__([number]), like)
        misfit = task.misfit(task(batch.input), batch.target)
        value = misfit.value()
        losses.append(float(value.detach()))
        yield Expansion(value, [misfit.term()])


def _ranked(scores: Tensor, numbers: list[int], top: int) -> dict[str, Any]:
    """Scores [samples] as plain values, and those at both ends."""

    def first(scores: Tensor) -> list[dict[str, float]]:
        total = scores.clamp_min(0).sum()
        order = scores.argsort(descending=True, stable=True)[:top]
        return [
            {"number": numbers[m], "score": float(scores[m]), "share": float(scores[m] / total)}
            for m in order.tolist()
            if scores[m] > 0
        ]

    helped, hurt = first(scores), first(-scores)
    return {
        "helped": helped,
        "hurt": [{**sample, "score": -sample["score"]} for sample in hurt],
        "carried": sum(sample["share"] for sample in helped),
        "scores": scores.tolist(),
    }


def _tell(record: dict[str, Any]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows(record):
        table.add_row(*map(Text, row))
    show(summary(record), notes(record), record["seconds"], table)


@hydra.main(version_base="1.3", config_path="../../conf", config_name="attribute")
def main(config: DictConfig) -> None:
    sys.exit(report(lambda: attribute(config), _tell))


if __name__ == "__main__":
    guarded(main, "a command explains one checkpoint")
