"""Curvature of the loss at a checkpoint, for the report of its run:

    python -m sciml.curvature.analyse ckpt_path=runs/.../checkpoints/best.ckpt

Writes `curvature.json`, figures in the folder `curvature`, and the report of the run anew. What is
computed stands in `analysis`; `--help` lists the settings.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from datasets.command_line import guarded
from datasets.schema import Batch
from sciml.evaluation.curvature import ADAM, CURVATURE, MEANING, pictures, summary
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
from sciml.runtime.trained_run import TrainedRun

if TYPE_CHECKING:  # curvlinops is imported where it is needed
    from sciml.curvature.operators import SampledLoss
    from sciml.curvature.stability import AdamScaling

LEAST = {"samples": 3, "steps": 2, "vectors": 2, "eigenvalues": 2, "grid": 3, "seed": 0}
LEAST |= {"batch_size": 1, "threads": 1}


def analyse(asked: DictConfig) -> tuple[Path, dict[str, Any]]:
    """The folder of the run, and the analysis as plain values. ValueError for what a user can
    mend.
    """
    start = time.monotonic()
    _require_settings(asked)
    try:
        from sciml.curvature.analysis import Effort, analysis
    except ModuleNotFoundError as error:
        raise ValueError(
            f"curvlinops is not installed ({error}): `make env` or pip install '.[analysis]'."
        ) from error
    run = opened(asked)
    loss = _loss(run, asked)
    grid = asked.grid if asked.planes else None
    effort = Effort(asked.steps, asked.vectors, asked.eigenvalues, grid, asked.seed)
    with Console(stderr=True).status("") as status:
        found = analysis(loss, effort, _scaling(run), status.update)
    for layer in found["layers"]:
        layer["name"] = layer["name"].removeprefix("model.")  # of the task
    return run.folder, {
        "checkpoint": Path(asked.ckpt_path).name,
        "step": run.checkpoint["global_step"],
        "split": asked.split,
        "samples": asked.samples,
        "seed": asked.seed,
        "precision": str(next(run.task.parameters()).real.dtype).removeprefix("torch."),
        "run_batch_size": run.config.batch_size * run.config.trainer.accumulate_grad_batches,
        "run_rate": OmegaConf.select(run.config, "optimizer.lr"),
        "steps_along": _steps_along(run),
        **found,
        "seconds": time.monotonic() - start,
    }


def _require_settings(asked: DictConfig) -> None:
    require_counts(asked, LEAST, ("batch_size", "threads"))
    if asked.grid % 2 == 0:
        raise ValueError(f"grid={asked.grid} must be odd: the weights lie in the middle.")
    require_switches(asked, "planes", "double")
    if asked.split not in ("train", "valid"):
        raise ValueError(
            f"split={asked.split} must be train or valid; nothing is chosen by test data."
        )


def _loss(run: TrainedRun, asked: DictConfig) -> "SampledLoss":
    """The training loss on samples of the split that the seed draws."""
    from sciml.curvature.operators import Objective, SampledLoss

    source, task = run.dataset.source(asked.split), run.task
    if asked.samples > len(source):
        raise ValueError(
            f"samples={asked.samples} is more than the {len(source)} of split={asked.split}."
        )
    task, like = placed(task, asked.double)
    batch = source.__getitems__(drawn(source, asked.samples, asked.seed))
    *parts, coordinates = moved(batch, like)

    def expand(numbers: torch.Tensor) -> Expansion:
        return task.expand(Batch(*(part[numbers] for part in parts), coordinates))

    loss = SampledLoss(
        Objective(task, expand, asked.seed),
        asked.samples,
        asked.batch_size or run.config.batch_size,
    )
    with in_precision(asked.double):
        value = loss.value()
    if not value < torch.inf:
        raise ValueError(f"{asked.ckpt_path}: the loss on these samples is {value}.")
    return loss


def _scaling(run: TrainedRun) -> "AdamScaling | None":
    """Adam's, if the run was trained with it and the checkpoint holds its moments."""
    from sciml.curvature.stability import adam_scaling

    states = run.checkpoint.get("optimizer_states")
    if not states or _steps_along(run) not in ADAM:
        return None
    return adam_scaling(states[0], list(run.task.parameters()))


def _steps_along(run: TrainedRun) -> str:
    """The class whose steps the run took."""
    return (run.config.get("curvature") or run.config.optimizer)._target_


def findings(asked: DictConfig) -> Findings:
    folder, record = analyse(asked)
    figures = {name: png for name, (png, *_) in pictures(record).items()}
    return Findings(folder, CURVATURE, record, figures)


def _tell(record: dict[str, Any]) -> None:
    show(summary(record), MEANING, record["seconds"])


@hydra.main(version_base="1.3", config_path="../../conf", config_name="analyse")
def main(config: DictConfig) -> None:
    sys.exit(report(lambda: findings(config), _tell))


if __name__ == "__main__":
    guarded(main, "a command analyses one checkpoint")
