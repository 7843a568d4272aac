"""Test errors of the models at an equal budget: the same data, epochs, batches and schedule.

    python -m benchmarks.models [--data darcy] [--models fno,lsm,...] [--keep runs/models]
        [--quick]    one seed, two epochs

Each model, without `--models` all of `conf/model` but `LEFT_OUT`, is trained as `python train.py
model=... data=... curvature=none optimizer=adamw` trains it, with seeds 0, 1 and 2, and tested
once, with the weights of the best epoch on validation data. Its learning rate is that of `RATES`
with the lowest validation error after a fifth of the epochs with seed 3; nothing else is tuned;
`FITTED` are settings that go by the size of the grid. Intervals are 95 % t-intervals over the
seeds. Epochs cost different models different times, so the table has the milliseconds of a training
step, medians of steps at the end, one model after the other. The data are regenerated, and smaller
than published sets, on 32 x 32 points of Darcy flow: what is compared with the literature is the
order, not the numbers.

A run takes one thread. One that is complete in the folder `--keep` is not repeated, one that was
cut off is made anew: models may be shared among processes, and a last call, with nothing else on
the machine, collects them.
"""

import argparse
import io
import json
import math
import shutil
import statistics
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from benchmarks.result import Target, emit, half_width
from datasets.build import instantiate
from datasets.normalize import fit
from sciml.evaluation.run_folder import read_run
from sciml.models import build_model, prepare_model
from sciml.run import run
from sciml.runtime.finite_guard import NonFiniteError
from sciml.runtime.run_folder import ROOT, RunFolder

SEEDS, TUNING_SEED = (0, 1, 2), 3
RATES = (1e-3, 4e-3)
EPOCHS = {"darcy": 20, "burgers": 20}
RESOLUTION = {"darcy": 32, "burgers": 256}
FITTED = {("lsm", "darcy"): ["model.patch=2"]}  # 16 patches per axis, as published
LEFT_OUT = {
    "neuralop_codano": "seconds per step: 23 on 64 x 64 points, beside other work",
    "mionet": "deeponet where there is one input function",
    "message_passing": "made for time series, bundles of frames",
    "neuralop_uno": "uno is this architecture, in a seventh of the time per step",
}
AHEAD = ("lsm", "mgno", "mg_tfno")  # of fno on Darcy flow, in the published tables
ERROR, PARAMETERS = "test relative L2, %", "parameters"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="darcy", choices=sorted(EPOCHS))
    parser.add_argument("--models", help="names, separated by commas; all without it")
    parser.add_argument("--keep", type=Path, default=ROOT / "runs" / "models")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    every = {path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")}
    models = asked.models.split(",") if asked.models else sorted(every - LEFT_OUT.keys())
    seeds, epochs = (SEEDS[:1], 2) if asked.quick else (SEEDS, EPOCHS[asked.data])
    rows = []
    for model in models:
        rate = best_rate(model, asked.data, max(1, epochs // 5), asked.keep)
        found = [trained(model, asked.data, rate, s, epochs, asked.keep)[0] for s in seeds]
        rows.append(row(model, rate, found))
        print(rows[-1], file=sys.stderr, flush=True)
    torch.set_num_threads(1)
    for each in rows:
        each["ms per step"] = 1e3 * step_seconds(settings(each["model"], asked.data))
    emit("models", rows, targets(rows, asked.data), versions=("torch", "neuraloperator"), threads=1)


def best_rate(model: str, data: str, epochs: int, keep: Path) -> float:
    """By validation error; the test split takes no part. A run that diverges loses."""

    def error(rate: float) -> float:
        try:
            return trained(model, data, rate, TUNING_SEED, epochs, keep)[1]
        except NonFiniteError as reason:
            print(f"{model}, rate {rate}: {reason}", file=sys.stderr)
            return math.inf

    return min(RATES, key=error)


def trained(
    model: str, data: str, rate: float, seed: int, epochs: int, keep: Path
) -> tuple[dict[str, float], float]:
    """Figures and lowest validation error of a run, made anew unless it is there."""
    name = f"{model}-{data}-{rate:g}-{seed}-{epochs}"
    overrides = [f"optimizer.lr={rate}", f"seed={seed}", f"trainer.max_epochs={epochs}"]
    overrides = [*settings(model, data), *overrides, f"name={name}"]
    config, folder = composed(overrides), keep / name
    if not _complete(folder, OmegaConf.to_yaml(config, resolve=True)):
        if folder.exists():
            shutil.rmtree(folder)
        target = RunFolder(folder)
        target.write_config(config, overrides)
        with redirect_stdout(io.StringIO()):
            run(config, target)
    found = read_run(folder)
    return found.metrics, float(found.curves["relative_l2"]["val"][1].min())


def settings(model: str, data: str) -> list[str]:
    """What all runs of a model have in common."""
    own = [
        f"model={model}",
        f"data={data}",
        "curvature=none",
        "optimizer=adamw",
        *FITTED.get((model, data), []),
    ]
    return [*own, f"data.resolution={RESOLUTION[data]}", f"data_dir={ROOT / 'data'}", "threads=1"]


def composed(overrides: list[str]) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", overrides)


def step_seconds(overrides: list[str], steps: int = 9) -> float:
    """Median time of a training step on one batch: gradient and optimiser."""
    config = composed([*overrides, "name=step"])
    source = instantiate(config.data).source("train")
    batch, sides = source.__getitems__(range(config.batch_size)), fit(source)
    model = build_model(config.model, source.metadata)
    prepare_model(model, source, *sides)
    a, u = (side(x) for side, x in zip(sides, (batch.input, batch.target), strict=True))
    optimizer, taken = instantiate(config.optimizer)(model.parameters()), []
    for _ in range(steps + 2):
        start = time.perf_counter()
        optimizer.zero_grad()
        (model(a) - u).square().mean().backward()
        optimizer.step()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[2:])


def _complete(folder: Path, config: str) -> bool:
    metrics = folder / "metrics.json"
    if not metrics.is_file() or (folder / "config.yaml").read_text() != config:
        return False
    return json.loads(metrics.read_text())["status"] == "completed"


def row(model: str, rate: float, found: list[dict[str, float]]) -> dict:
    errors = [100 * figures["test/relative_l2"] for figures in found]
    return {
        "model": model,
        PARAMETERS: found[0]["parameters"],
        "rate": rate,
        ERROR: statistics.fmean(errors),
        "± 95 %": half_width(errors),
        "seeds": len(errors),
    }


def targets(rows: list[dict], data: str) -> dict[str, Target]:
    """The order of the published tables, as far as the models were asked for."""
    found = {r["model"]: r for r in rows}
    if data != "darcy" or "fno" not in found:
        return {}
    held = {}
    for model in AHEAD:
        if model in found:
            ratio = found[model][ERROR] / found["fno"][ERROR]
            held[f"{model}, error over that of fno"] = Target(ratio, 1, "lower")
    if "mg_tfno" in found:
        ratio = found["mg_tfno"][PARAMETERS] / found["fno"][PARAMETERS]
        held["mg_tfno, parameters over those of fno"] = Target(ratio, 0.1, "lower")
    return held


if __name__ == "__main__":
    main()
