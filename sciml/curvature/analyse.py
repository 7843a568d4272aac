"""Curvature of the loss at a checkpoint, for the report of its run:

    python -m sciml.curvature.analyse ckpt_path=runs/.../checkpoints/best.ckpt

Writes `curvature.json`, figures in the folder `curvature`, and the report of the run anew. What is
computed stands in `analysis`; `--help` lists the settings.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import torch
from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from datasets.command_line import COMPLAINTS, explain
from datasets.hydra_guard import install
from datasets.schema import Batch
from datasets.store import commit
from sciml.evaluation.curvature import CURVATURE, MEANING, pictures, summary
from sciml.evaluation.page import duration
from sciml.evaluation.report import write_report
from sciml.gauss_newton import Expansion
from sciml.runtime.trained_run import TrainedRun

if TYPE_CHECKING:  # curvlinops is imported where it is needed
    from sciml.curvature.operators import SampledLoss
    from sciml.curvature.stability import AdamScaling

LEAST = {"samples": 3, "steps": 2, "vectors": 2, "eigenvalues": 2, "grid": 3, "seed": 0}
OPTIONAL = {"batch_size": 1, "threads": 1}
ADAM = ("torch.optim.Adam", "torch.optim.AdamW")


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
    run = TrainedRun.open(asked.ckpt_path, data_dir=asked.data_dir, data=asked.data)
    if threads := asked.threads or run.config.threads:
        torch.set_num_threads(threads)
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
        "precision": "float64" if asked.double else "that of the weights",
        "run_batch_size": run.config.batch_size * run.config.trainer.accumulate_grad_batches,
        "run_rate": OmegaConf.select(run.config, "optimizer.lr"),
        **found,
        "seconds": time.monotonic() - start,
    }


def _require_settings(asked: DictConfig) -> None:
    for key, least in (LEAST | OPTIONAL).items():
        value = asked[key]
        if not (value is None and key in OPTIONAL) and (type(value) is not int or value < least):
            raise ValueError(f"{key}={value} must be a whole number, at least {least}.")
    if asked.grid % 2 == 0:
        raise ValueError(f"grid={asked.grid} must be odd: the weights lie in the middle.")
    for key in ("planes", "double"):
        if type(asked[key]) is not bool:
            raise ValueError(f"{key}={asked[key]} must be true or false.")
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
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = task.to(where).double() if asked.double else task.to(where)
    like = next(p for p in task.parameters()).real
    generator = torch.Generator().manual_seed(asked.seed)
    drawn = torch.randperm(len(source), generator=generator)[: asked.samples]
    *parts, coordinates = source.__getitems__(drawn.sort().values.tolist())
    parts, coordinates = [part.to(like) for part in parts], coordinates.to(like)

    def expand(numbers: torch.Tensor) -> Expansion:
        return task.expand(Batch(*(part[numbers] for part in parts), coordinates))

    loss = SampledLoss(
        Objective(task, expand, asked.seed),
        asked.samples,
        asked.batch_size or run.config.batch_size,
    )
    try:
        value = loss.value()
    except RuntimeError as error:
        if not asked.double:
            raise
        reason = str(error).partition("\n")[0]
        raise ValueError(f"double=true: the model has no float64 ({reason}).") from error
    if not value < torch.inf:
        raise ValueError(f"{asked.ckpt_path}: the loss on these samples is {value}.")
    return loss


def _scaling(run: TrainedRun) -> "AdamScaling | None":
    """Adam's, if the run was trained with it and the checkpoint holds its moments."""
    from sciml.curvature.stability import adam_scaling

    states = run.checkpoint.get("optimizer_states")
    if not states or run.config.get("curvature") or run.config.optimizer._target_ not in ADAM:
        return None
    return adam_scaling(states[0], list(run.task.parameters()))


def run(asked: DictConfig) -> int:
    """0, or 1 after an error of one line."""
    try:
        folder, record = analyse(asked)
        commit(folder / CURVATURE, json.dumps(record, indent=1).encode())
        (folder / "curvature").mkdir(exist_ok=True)
        for name, (png, *_) in pictures(record).items():
            commit(folder / "curvature" / f"{name}.png", png)
    except COMPLAINTS as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _print(record)
    print(f"figures {folder / 'curvature'}, numbers {folder / CURVATURE}")
    if (folder / "metrics.json").is_file():
        print(f"report  {write_report(folder)}")
    else:
        print("report  none: the run was stopped before it could be reported")
    return 0


def _print(record: dict[str, Any]) -> None:
    console = Console()
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in summary(record):
        table.add_row(Text(name), Text(value))
    console.print(table)
    for note in MEANING:
        console.print(Text(note), style="dim")
    print(f"time    {duration(record['seconds'])}")


@hydra.main(version_base="1.3", config_path="../../conf", config_name="analyse")
def main(config: DictConfig) -> None:
    sys.exit(run(config))


def command() -> None:
    """`main`, with Hydra's complaints about the command line in one line."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come here as they are
    install()
    if {"-m", "--multirun"} & set(sys.argv):
        print("error: -m: a command analyses one checkpoint.", file=sys.stderr)
        sys.exit(1)
    try:
        main()
    except COMPLAINTS as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        sys.exit(2)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    command()
