"""Spectral refinement of a trained ST-FNO on the test problems of its run.

    python -m sciml.refine runs/.../ [--samples 4] [--iterations 50] [--modes 24]

For the first window of each test trajectory `SpectralRefiner` fits the last layer to the equation
that the recipe of the data names. The table has relative L2 errors over all frames: of the network,
refined, and of the solver on the same grid; the norm of the residual before and after, and that of
the data, which were computed on a finer grid, so that no residual need be smaller; and the seconds
that the fit took, and the solver.
"""

import argparse
import sys
import time
from itertools import islice
from pathlib import Path

import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from datasets.build import instantiate
from datasets.command_line import COMPLAINTS, explain
from datasets.evolution_recipe import EvolutionRecipe
from datasets.recipe import Governed
from datasets.schema import Batch, DataSet
from datasets.windows import Windows
from sciml.evaluation.metrics import relative_l2
from sciml.models import Surrogate
from sciml.tasks import SpectralRefiner
from solvers.evolution import Evolution, Unstable, rollout

COLUMNS = (
    *("error %", "refined %", "solver %"),
    *("residual", "fitted", "data"),
    *("fit s", "solver s"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m sciml.refine", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run", type=Path, help="folder of a run with model=st_fno")
    parser.add_argument("--samples", type=int, default=4, help="test trajectories, from the first")
    parser.add_argument("--iterations", type=int, default=50, help="of L-BFGS")
    parser.add_argument("--modes", type=int, help="per axis; as many as the grid holds without it")
    asked = parser.parse_args()
    try:
        rows = refine(asked.run, asked.samples, asked.iterations, asked.modes)
    except COMPLAINTS as error:
        sys.exit(f"error: {explain(error)}")
    except (ValueError, OSError, Unstable) as error:
        sys.exit(f"error: {error}")
    table = Table(box=None, collapse_padding=True, pad_edge=False)  # 80 characters
    for title in ("sample", *COLUMNS):
        table.add_column(title, justify="right", no_wrap=True)
    for name, numbers in [*enumerate(rows), ("mean", torch.tensor(rows).mean(0).tolist())]:
        table.add_row(str(name), *(f"{x:.2g}" for x in numbers))
    Console().print(table)


def refine(
    folder: Path, samples: int = 4, iterations: int = 50, modes: int | None = None
) -> list[tuple[float, ...]]:
    """A row of `COLUMNS` for each of the first test trajectories of the run in `folder`.

    Raises ValueError for a run that is not of an ST-FNO on data of one known equation.
    """
    if samples < 1 or iterations < 1 or (modes is not None and modes < 1):
        raise ValueError("--samples, --iterations and --modes must be at least 1.")
    if not (folder / "config.yaml").is_file():
        raise ValueError(f"{folder}: not the folder of a run, it has no config.yaml.")
    config = OmegaConf.load(folder / "config.yaml")
    if OmegaConf.select(config, "task.increments"):
        raise ValueError(
            "task.increments=true: the model of this run gives changes, refinement needs states."
        )
    surrogate = Surrogate.load(folder / "model")
    dataset = instantiate(config.data)
    equation = _equation(dataset, surrogate)
    chosen = (modes,) * equation.grid.ndim if modes else None
    refiner = SpectralRefiner(surrogate, equation, modes=chosen, iterations=iterations)
    windows = dataset.source("test")
    assert isinstance(windows, Windows)  # where `frames.dt` is known
    firsts = (windows.first_of(number) for number in range(len(windows.trajectories)))
    return [
        _row(refiner, windows.__getitems__([first]))
        for first in islice((first for first in firsts if first is not None), samples)
    ]


def _row(refiner: SpectralRefiner, batch: Batch) -> tuple[float, ...]:
    a = batch.input.double()
    with torch.no_grad():
        network = refiner.surrogate(a)
    target = batch.target[:, : network.shape[1]].double()  # a step of a roll-out is shorter
    times = [time.perf_counter()]
    refined = refiner.fit(a)
    times.append(time.perf_counter())
    with torch.no_grad():
        found = refined(a)
    solved = rollout(refiner.equation, refiner.newest(a), refiner.frames.horizon)[:, 1:].flatten(
        1, 2
    )
    times.append(time.perf_counter())
    errors = [100 * float(relative_l2(u, target).mean()) for u in (network, found, solved)]
    norms = [float(refiner.norm(a, u)) for u in (network, found, target)]
    return (*errors, *norms, times[1] - times[0], times[2] - times[1])


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


if __name__ == "__main__":
    main()
