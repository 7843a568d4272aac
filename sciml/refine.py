"""Spectral refinement of a trained ST-FNO on the test problems of its run.

    python -m sciml.refine runs/.../ [--samples 4] [--iterations 50] [--modes 24]

For each problem `SpectralRefiner` fits the last layer to the equation that the recipe of the data
names. The table has the relative L2 error over all frames before and after, the norm of the
residual before, after and of the data themselves (which were computed on a finer grid, with other
steps: no prediction need be better), and the seconds that the fit took and that the solver takes
for the same frames on the same grid.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from datasets.build import check_target, instantiate
from datasets.evolution_recipe import EvolutionRecipe
from datasets.recipe import Governed
from datasets.schema import DataSet, Source
from sciml.evaluation.metrics import relative_l2
from sciml.models import Surrogate
from sciml.tasks import SpectralRefiner
from sciml.tasks.task import Task
from solvers.evolution import Evolution, rollout

COLUMNS = ("error", "refined", "residual", "refined", "data", "fit s", "solver s")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m sciml.refine", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run", type=Path, help="folder of a run with model=st_fno")
    parser.add_argument("--samples", type=int, default=4, help="test problems, from the first")
    parser.add_argument("--iterations", type=int, default=50, help="of L-BFGS")
    parser.add_argument("--modes", type=int, help="per axis; as many as the grid holds without it")
    asked = parser.parse_args()
    try:
        rows = refine(asked.run, asked.samples, asked.iterations, asked.modes)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    table = Table(box=SIMPLE)
    for title in ("sample", *COLUMNS):
        table.add_column(title, justify="right", no_wrap=True)
    for name, numbers in [*enumerate(rows), ("mean", torch.tensor(rows).mean(0).tolist())]:
        table.add_row(str(name), *(f"{x:.2g}" for x in numbers))
    Console().print(table)


def refine(
    folder: Path, samples: int = 4, iterations: int = 50, modes: int | None = None
) -> list[tuple[float, ...]]:
    """A row of `COLUMNS` for each of the first test samples of the run in `folder`."""
    if samples < 1 or iterations < 1 or (modes is not None and modes < 1):
        raise ValueError("--samples, --iterations and --modes must be at least 1.")
    if not (folder / "config.yaml").is_file():
        raise ValueError(f"{folder}: not the folder of a run, it has no config.yaml.")
    config = OmegaConf.load(folder / "config.yaml")
    surrogate = Surrogate.load(folder / "model")
    dataset = instantiate(config.data)
    equation = _equation(dataset, surrogate)
    chosen = (modes,) * equation.grid.ndim if modes else None
    refiner = SpectralRefiner(surrogate, equation, modes=chosen, iterations=iterations)
    source = _pairs(dataset, config)
    rows = []
    for number in range(min(samples, len(source))):
        batch = source.__getitems__([number])
        a, target = batch.input.double(), batch.target.double()
        with torch.no_grad():
            first = refiner.surrogate(a)
        start = time.perf_counter()
        found = refiner(a)
        fitted = time.perf_counter()
        rollout(equation, refiner.newest(a), refiner.frames.horizon)
        solved = time.perf_counter()
        errors = [float(relative_l2(u, target).mean()) for u in (first, found.prediction)]
        norms = [float(n) for n in (found.before, found.after, refiner.norm(a, target))]
        rows.append((*errors, *norms, fitted - start, solved - fitted))
    return rows


def _equation(dataset: DataSet, surrogate: Surrogate) -> Evolution:
    recipe = dataset.recipe() if isinstance(dataset, Governed) else None
    if not isinstance(recipe, EvolutionRecipe):
        raise ValueError(
            f"{surrogate.metadata.name}: refinement needs solutions over time that a recipe of "
            "conf/pde gives, such as data=navier_stokes_1e-3; these do not say what they solve."
        )
    if recipe.parameters or recipe.coefficients:
        raise ValueError(
            f"{surrogate.metadata.name}: every sample has an equation of its own "
            f"({', '.join((*recipe.parameters, *recipe.coefficients))}); refinement takes one."
        )
    return recipe.stepper(surrogate.metadata.grid.shape, {})


def _pairs(dataset: DataSet, config: DictConfig) -> Source:
    kind: type[Task] = check_target(config.task["_target_"])
    return kind.pairs(dataset.source("test"), config.task)


if __name__ == "__main__":
    main()
