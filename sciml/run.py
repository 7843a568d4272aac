"""One run: data, model and task from a configuration; training, evaluation and the report in a
folder.
"""

import logging
import re
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from lightning import seed_everything
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch.nn import Parameter

from datasets.build import instantiate
from datasets.datamodule import DataModule
from datasets.schema import SPLITS, DataSet, Source, Streamed
from datasets.windows import Windows
from sciml.evaluation.comparison import write_comparison
from sciml.evaluation.evaluate import evaluate
from sciml.evaluation.report import write_report
from sciml.evaluation.result import Evaluation
from sciml.evaluation.rollout import evaluate_rollout
from sciml.evaluation.rollout_errors import save_rollouts, summary
from sciml.evaluation.run_folder import ROLLOUTS
from sciml.models import Surrogate, parameter_count
from sciml.runtime.allocator import keep_freed_memory
from sciml.runtime.checkpoint_io import load_checkpoint
from sciml.runtime.history import take_curves
from sciml.runtime.origin import chosen_settings, origin, require_fair_test, require_same_run
from sciml.runtime.peak_memory import PeakMemory
from sciml.runtime.run_folder import RunFolder, environment
from sciml.runtime.training import device, fit
from sciml.runtime.variants import variants
from sciml.tasks.build import build_task, optimizer_factory
from sciml.tasks.task import Task
from sciml.tasks.weights import load_weights, require_fit

LEAST = {"seed": 0, "batch_size": 1, "num_workers": 0, "threads": 1, "checkpoint_every": 1}
THREADS = torch.get_num_threads()  # of a run that does not say


def run(config: DictConfig, folder: RunFolder) -> dict[str, float]:
    """Fit (unless `fit=false`), evaluate on the test split, write figures and report. Returns the
    figures.

    The weights that are tested are those with the lowest error on validation data; the test split
    is read once, at the end. Raises ValueError for what the user can mend and `Interrupted` after
    a signal.
    """
    compared = variants(config) if config.fit and config.get("compare") else {}
    with ExitStack() as closing:
        figures = _run(config, folder, closing)
    if compared:
        _compare(compared, folder)
    return figures


def _run(config: DictConfig, folder: RunFolder, closing: ExitStack) -> dict[str, float]:
    clock, memory = {"start": time.monotonic()}, PeakMemory()
    started = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    _require_settings(config)
    _log_to_file_only("lightning.pytorch", "lightning.fabric", "lightning")
    keep_freed_memory()
    torch.set_num_threads(config.threads if config.threads is not None else THREADS)
    seed_everything(config.seed, verbose=False)
    where, checkpoint = device(config), _checkpoint(config)
    if checkpoint is not None and config.fit:  # before hours of computing data
        require_same_run(chosen_settings(config), checkpoint, config.ckpt_path, data=False)

    dataset = _dataset(config)
    if isinstance(dataset, Streamed):
        closing.callback(dataset.close)
    data = DataModule(
        dataset, batch_size=config.batch_size, seed=config.seed, num_workers=config.num_workers
    )
    task = build_task(config, dataset, prepare=checkpoint is None)
    facts = dataset.facts()
    grid = data.metadata.grid
    settings = origin(config, facts, grid)
    if checkpoint is not None:
        if not config.fit:
            require_fair_test(facts, grid, checkpoint, config.ckpt_path)
        require_fit(task, checkpoint, config.ckpt_path)
        if config.fit:
            require_same_run(settings, checkpoint, config.ckpt_path)
            take_curves(Path(config.ckpt_path).absolute(), checkpoint["global_step"], folder.path)
    sources = _test_sources(config, dataset)
    clock["data"] = time.monotonic()
    parameters = parameter_count(task.model)
    counts = ", ".join(f"{facts['splits'][split]} {split}" for split in SPLITS)
    print(f"data    {facts['description']}; {counts}; {facts['path']}")
    print(f"model   {config.name}, {parameters:,} parameters")
    about = {
        "name": config.name,
        "started": started,
        "seed": config.seed,
        "command": folder.command,
        **environment(where),
        "data": facts,
        "model": {"name": type(task.model).__name__, "parameters": parameters},
        "checkpoint": config.ckpt_path,
    }
    figures: dict[str, Any] = {"status": "completed", "parameters": parameters}
    earlier = 0.0
    if config.fit:
        about["continued_from"] = about.pop("checkpoint")
        folder.write_json("run.json", about)
        fitted = fit(config, task, data, folder.path, settings)
        checkpoint, about["checkpoint"] = load_checkpoint(fitted.best), str(fitted.best)
        figures["best_epoch"], earlier = fitted.epoch + 1, fitted.earlier_seconds
        figures["steps"] = fitted.steps
        if fitted.method:
            about["curvature"] = dict(fitted.method)
    load_weights(task, checkpoint)
    folder.write_json("run.json", about)
    clock["train"] = time.monotonic()

    if config.fit:
        _surrogate(config, task, data).save(folder.path / "model")
    figures |= _evaluate(config, task.to(where), sources, folder.path)
    clock["end"] = time.monotonic()
    figures |= {
        "data_s": clock["data"] - clock["start"],
        "train_s": earlier + clock["train"] - clock["data"],
        "train_before_s": earlier,
        "evaluate_s": clock["end"] - clock["train"],
        "wall_s": clock["end"] - clock["start"],
        "peak_rss_mb": memory.megabytes(),
    }
    folder.write_json("metrics.json", figures)
    print(f"report  {write_report(folder.path)}")
    return figures


def _compare(compared: Mapping[str, DictConfig], folder: RunFolder) -> None:
    """Run what a run is to be compared with, in folders inside its own, and say how they differ."""
    paths = {"this run": folder.path}
    for name, config in compared.items():
        print(f"\ncompared with {name.replace('_', ' ')}")
        inner = RunFolder(folder.path / "compare" / name)
        inner.write_config(config, [])
        run(config, inner)
        paths[name] = inner.path
    for line in write_comparison(folder.path, paths):
        print(line)
    print(f"report  {write_report(folder.path)}")


def _dataset(config: DictConfig) -> DataSet:
    """The data, their training split streamed if `online` says how."""
    dataset = instantiate(config.data)
    if "_target_" not in (config.get("online") or {}):  # an experiment's settings may be left over
        return dataset
    epochs = config.trainer.max_epochs
    if type(epochs) is not int or epochs < 1:
        raise ValueError(
            f"trainer.max_epochs={epochs}: a stream is divided into epochs of equal length; give "
            "their number, at least 1."
        )
    return instantiate(
        config.online,
        dataset=dataset,
        batch_size=config.batch_size,
        epochs=epochs,
        seed=config.seed,
    )


def _checkpoint(config: DictConfig) -> dict[str, Any] | None:
    """What `ckpt_path` holds, and has to hold for what is asked for."""
    if config.ckpt_path is None:
        if not config.fit:
            raise ValueError("fit=false evaluates a trained model: give its ckpt_path=... as well.")
        return None
    if not isinstance(config.ckpt_path, str) or not config.ckpt_path:
        raise ValueError(f"ckpt_path={config.ckpt_path} must be the path of a checkpoint.")
    checkpoint = load_checkpoint(config.ckpt_path)
    if config.fit and "optimizer_states" not in checkpoint:
        raise ValueError(
            f"{config.ckpt_path}: holds weights alone, a training cannot go on from it; fit=false "
            "evaluates it."
        )
    return checkpoint


def _require_settings(config: DictConfig) -> None:
    """What would otherwise fail in the middle of a library, or be taken for something else."""
    for key, least in LEAST.items():
        value = config[key]
        optional = value is None and key in ("threads", "checkpoint_every")
        if not optional and (type(value) is not int or value < least):
            raise ValueError(f"{key}={value} must be a whole number, at least {least}.")
    if type(config.fit) is not bool:
        raise ValueError(f"fit={config.fit} must be true or false.")
    if not isinstance(config.name, str) or not re.fullmatch(r"[^/\s]+", config.name):
        raise ValueError(f"name={config.name} must be a word, it becomes a part of folder names.")
    if config.get("experiment") is not None:
        raise ValueError(
            "an experiment's YAML must begin with the line `# @package _global_`, without it its "
            "settings have no effect."
        )
    parts = config.trainer.get("accumulate_grad_batches", 1)
    if config.optimizer.get("_target_") == "torch.optim.LBFGS" and parts not in (1, None):
        raise ValueError(
            f"trainer.accumulate_grad_batches={parts}: LBFGS evaluates the loss several times in a "
            "step, which adds up the gradients of all of them; set a larger batch_size instead."
        )
    if config.trainer.precision in ("16-true", "bf16-true"):
        raise ValueError(
            f"trainer.precision={config.trainer.precision}: Fourier modes are complex, of which "
            "there are no halves; bf16-mixed halves everything else."
        )
    if config.fit and config.trainer.limit_val_batches == 0:
        raise ValueError(
            "trainer.limit_val_batches=0: validation chooses the weights, give it some batches."
        )
    if config.fit:
        optimizer_factory(config)([Parameter(torch.zeros(1))])  # refuses its own settings


def _log_to_file_only(*names: str) -> None:
    """Messages of these loggers go to train.log, not to the terminal."""
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def _surrogate(config: DictConfig, task: Task, data: DataModule) -> Surrogate:
    return Surrogate(
        task.model,
        task.input_normalizer,
        task.target_normalizer,
        task.pairs(data.dataset.source("train"), config.task).metadata,
        OmegaConf.to_container(config.model, resolve=True),
    )


def _test_sources(config: DictConfig, dataset: DataSet) -> dict[str, Source]:
    """Test splits by the prefix of their figures: on the data's own grid, unless only others are
    asked for, and on those of `resolution`. No sample is read.
    """
    asked = config.resolution
    others = list(asked) if isinstance(asked, ListConfig) else [asked] if asked is not None else []
    for resolution in others:
        points = list(resolution) if isinstance(resolution, ListConfig) else [resolution]
        if not all(type(n) is int and n >= 3 for n in points):
            raise ValueError(
                f"resolution={asked}: give whole numbers of points, at least 3, such as 128, "
                "[32,128] or [[64,128]]."
            )
    sources = {"test": dataset.source("test")} if config.fit or not others else {}
    for resolution in others:
        source = dataset.source("test", resolution)
        if _shape(source) not in map(_shape, sources.values()):
            sources[f"test@{_shape(source)}"] = source
    for source in sources.values():
        if min(source.metadata.grid.shape) < 3:
            raise ValueError(
                f"the grid {_shape(source)} is too small: errors need 3 points per axis."
            )
    return sources


def _shape(source: Source) -> str:
    return "x".join(map(str, source.metadata.grid.shape))


def _evaluate(
    config: DictConfig, task: Task, sources: Mapping[str, Source], folder: Path
) -> dict[str, float]:
    task.eval()
    figures: dict[str, float] = {}
    results, rollouts = {}, {}
    for prefix, source in sources.items():
        shape = _shape(source)
        common = {"prefix": prefix, "batch_size": config.batch_size}
        common["like"] = next(task.parameters())
        found, results[shape] = evaluate(task, source, trained=task.metadata.grid, **common)
        figures |= found
        error = found[f"{prefix}/relative_l2"]
        print(f"test    relative L2 error {100 * error:.2f} % on {shape} ({len(source)} samples)")
        if isinstance(source, Windows):
            unrolled = evaluate_rollout(task.step, source, task.bundle, **common)
            if unrolled is not None:
                rollouts[shape] = unrolled
                figures |= unrolled.figures()
                print(f"        {summary(unrolled)}")
    Evaluation.from_metadata(task.metadata, results).save(folder / "evaluation.npz")
    if rollouts:
        save_rollouts(folder / ROLLOUTS, rollouts)
    return figures
