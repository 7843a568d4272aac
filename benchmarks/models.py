"""Test errors of the models at an equal budget: the same data, epochs, batches and schedule.

    python -m benchmarks.models [--data darcy] [--models fno,lsm,...] [--keep runs/models]
        [--quick]    one seed, two epochs

Each model, without `--models` all of `conf/model` but `LEFT_OUT`, is trained as `python train.py
model=... data=...` trains it, with seeds 0, 1 and 2, and tested once, with the weights of the best
epoch on validation data. Its learning rate is that of `RATES` with the lowest validation error
after a fifth of the epochs with seed 3; nothing else is tuned; `FITTED` are settings that go by the
size of the grid. Intervals are 95 % t-intervals over the seeds. Epochs cost different models
different times, so the table has the seconds too. The data are regenerated, and smaller than
published sets, on 32 x 32 points of Darcy flow: what is compared with the literature is the order,
not the numbers.

A run takes one thread, and one that is complete in the folder `--keep` is not repeated: models may
be shared among processes, and a last call collects them.
"""

import argparse
import csv
import io
import json
import statistics
import sys
from contextlib import redirect_stdout
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scipy.stats import t as student

from benchmarks.result import Target, emit
from sciml.run import run
from sciml.runtime.run_folder import ROOT, RunFolder

SEEDS, TUNING_SEED = (0, 1, 2), 3
RATES = (1e-3, 4e-3)
EPOCHS = {"darcy": 20, "burgers": 20}
RESOLUTION = {"darcy": 32, "burgers": 256}
FITTED = {("lsm", "darcy"): ["model.patch=2"]}  # 16 patches per axis, as published
LEFT_OUT = {
    "neuralop_codano": "more than a minute per step",
    "mionet": "deeponet where there is one input function",
    "message_passing": "made for time series, bundles of frames",
    "neuralop_uno": "four times the time of the slowest left",
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
    emit("models", rows, targets(rows, asked.data), versions=("torch", "neuraloperator"), threads=1)


def best_rate(model: str, data: str, epochs: int, keep: Path) -> float:
    """By validation error; the test split takes no part."""
    return min(RATES, key=lambda rate: trained(model, data, rate, TUNING_SEED, epochs, keep)[1])


def trained(
    model: str, data: str, rate: float, seed: int, epochs: int, keep: Path
) -> tuple[dict[str, float], float]:
    """Figures and lowest validation error of a run, made anew unless it is there."""
    name = f"{model}-{data}-{rate:g}-{seed}-{epochs}"
    overrides = [f"model={model}", f"data={data}", f"optimizer.lr={rate}", f"seed={seed}"]
    overrides += [f"trainer.max_epochs={epochs}", f"name={name}", f"data_dir={ROOT / 'data'}"]
    overrides += [f"data.resolution={RESOLUTION[data]}", "threads=1"]
    overrides += FITTED.get((model, data), [])
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", overrides)
    folder = keep / name
    if not _complete(folder, OmegaConf.to_yaml(config, resolve=True)):
        target = RunFolder(folder)
        target.write_config(config, overrides)
        with redirect_stdout(io.StringIO()):
            run(config, target)
    figures = json.loads((folder / "metrics.json").read_text())
    with (folder / "metrics.csv").open() as file:
        errors = [line["val/relative_l2"] for line in csv.DictReader(file)]
    return figures, min(float(e) for e in errors if e)


def _complete(folder: Path, config: str) -> bool:
    metrics = folder / "metrics.json"
    if not metrics.is_file() or (folder / "config.yaml").read_text() != config:
        return False
    return json.loads(metrics.read_text())["status"] == "completed"


def row(model: str, rate: float, found: list[dict[str, float]]) -> dict:
    errors = [100 * figures["test/relative_l2"] for figures in found]
    half = ""
    if len(errors) > 1:
        spread = student.ppf(0.975, len(errors) - 1) * statistics.stdev(errors)
        half = f"{spread / len(errors) ** 0.5:.2f}"
    return {
        "model": model,
        PARAMETERS: found[0]["parameters"],
        "rate": rate,
        ERROR: statistics.fmean(errors),
        "±": half,
        "seeds": len(errors),
        "training s": statistics.fmean(figures["train_s"] for figures in found),
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
