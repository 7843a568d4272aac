"""A finished run of an experiment as a small table: its errors on the way, and what it reached.

    python -m benchmarks.experiment RUN [--rows 10]

RUN is the folder of a run of one of `EXPERIMENTS`, continued ones included. Validation chooses the
epoch whose weights are tested. "no network" is the test error of what needs no training: for
Burgers' equation the linear one that is left when u - mean(u) is small,

    u_t + mean(u) u_x = nu u_xx,

solved exactly; at viscosity 0.1 and t = 1 it comes close. Darcy flow has nothing as near.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from benchmarks.result import Target, emit
from datasets.build import instantiate
from datasets.schema import Source
from sciml.evaluation.metrics import relative_l2
from sciml.evaluation.run_folder import Curves, read_run

HOURS = 2.0
ERROR = "test/relative_l2"
SPLITS = ("training", "validation", "test")
TRAINING, VALIDATION, TEST = (f"{split} relative L2, %" for split in SPLITS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--rows", type=int, default=10)
    asked = parser.parse_args()
    if asked.rows < 1:
        parser.error(f"--rows {asked.rows} must be at least 1")
    try:
        run = read_run(asked.run)
    except ValueError as error:
        sys.exit(f"error: {error}")
    config, command = OmegaConf.create(run.config), run.about.get("command", "").split()
    name = next((e for e in EXPERIMENTS if f"experiment={e}" in command), None)
    if name is None or run.metrics["status"] != "completed":
        names = " or ".join(EXPERIMENTS)
        sys.exit(f"error: {asked.run}: not a completed run of experiment={names}.")
    bar, baseline = EXPERIMENTS[name]
    error = 100 * run.metrics[ERROR]
    rows = progress(run.curves, asked.rows)
    rows.append(row(f"{run.metrics['best_epoch']} of all {rows[-1]['epoch']}", test=error))
    if baseline is not None:
        rows.append(row("no network", test=baseline(config)))
    what = f"experiment={name}"
    held = {
        f"{what}, {TEST}": Target(error, bar, "lower"),
        f"{what}, hours of training": Target(run.metrics["train_s"] / 3600, HOURS, "lower"),
    }
    threads = run.about["machine"]["threads"]
    emit("experiment", rows, held, versions=("torch",), threads=threads)


def progress(curves: Curves, count: int) -> list[dict]:
    """At most `count` epochs of a run at equal distances, the last one included."""
    loss = [dict(zip(*curves["loss"][split], strict=True)) for split in ("train", "val")]
    epochs = sorted(loss[1])
    step = -(-len(epochs) // count)
    shown = epochs[::-1][::step][::-1]
    return [row(int(epoch), *(100 * part[epoch] for part in loss)) for epoch in shown]


def row(
    epoch: object,
    training: float | None = None,
    validation: float | None = None,
    test: float | None = None,
) -> dict:
    return {"epoch": epoch, TRAINING: training, VALIDATION: validation, TEST: test}


def linear_burgers(config: DictConfig) -> float:
    """Test error in percent of the linear equation, by Fourier series."""
    data, stepper = instantiate(config.data), config.data.pde.stepper
    source: Source = data.source("test")
    batch = source.__getitems__(range(len(source)))
    start, end = batch.input.double(), batch.target.double()
    (axis,) = source.metadata.grid.axes
    k = 2 * torch.pi / axis.length * torch.arange(axis.size // 2 + 1, dtype=torch.float64)
    mean = start.mean(-1, keepdim=True)
    change = torch.exp(-(stepper.viscosity * k.square() + 1j * k * mean) * stepper.dt)
    found = torch.fft.irfft(torch.fft.rfft(start) * change, n=axis.size)
    return 100 * float(relative_l2(found, end).mean())


# aim in percent, what needs no training
EXPERIMENTS: dict[str, tuple[float, Callable[[DictConfig], float] | None]] = {
    "burgers": (0.3, linear_burgers),
    "darcy_85": (1.1, None),
}


if __name__ == "__main__":
    main()
