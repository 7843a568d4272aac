"""PDEBench's five HDF5 layouts, told apart by what is in a file, not by its name.

    1-D equations   tensor [n, t, x], x-coordinate, t-coordinate; numbers among the attributes
    flow            density, pressure, Vx, Vy, Vz [n, t, *space]; attributes eta, zeta, M
    Darcy           nu [n, x, y] -> tensor [n, 1, x, y]; attribute beta: a steady map
    seeds           a group for each seed: data [t, *space, c], grid/x, grid/y, grid/t, and its
                    configuration as YAML
    incompressible  velocity [n, t, x, y, 2], particles [n, t, x, y, 1], force [n, x, y, 2],
                    t [n, t]

Takamoto et al., PDEBench: an extensive benchmark for scientific machine learning, NeurIPS 2022.
Numbers among a file's attributes are parameters of all its trajectories. The files do not say what
holds at the sides: `BOUNDARY` has the condition of each layout's usual files, the caller may know
better.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from datasets.foreign_files import ForeignPairs, ForeignTrajectories
from datasets.pdebench_seeds import is_seeds, seeds
from datasets.schema import Field, Metadata
from datasets.survey import SPACE, Content, Survey, Variable, numbers
from datasets.uniform import axis, median_step, times
from solvers.grid import Grid

BOUNDARY = {
    "1-D equations": "periodic",
    "flow": "periodic",
    "Darcy": "dirichlet",
    "seeds": "neumann",
    "incompressible": "dirichlet",
}
SLIP = "t"  # t-coordinate may count the end of the last step


class PDEBenchTrajectories(ForeignTrajectories):
    """Trajectories of one or more files in one of the four layouts with time (`Trajectories`).

    Fields keep their names; those of `tensor` and `data` are `u`, or `u_0`, `u_1` ... Times and
    coordinates are the file's; without coordinates (incompressible) the domain is the unit square.
    """

    def __init__(self, paths: Sequence[Path | str], *, boundary: str | None = None, **options: Any):
        super().__init__(paths, partial(survey, boundary=boundary), **options)
        if self.metadata.num_frames is None:
            raise ValueError(f"{self.paths[0]}: holds a steady map; read it as PDEBenchPairs.")


class PDEBenchPairs(ForeignPairs):
    """Pairs of PDEBench's Darcy files, nu -> u (a `Source`)."""

    def __init__(self, paths: Sequence[Path | str], *, boundary: str | None = None, **options: Any):
        super().__init__(paths, partial(survey, boundary=boundary), **options)
        if self.metadata.num_frames is not None:
            raise ValueError(
                f"{self.paths[0]}: holds trajectories; read it as PDEBenchTrajectories."
            )


def layout(file: h5py.File) -> str | None:
    """Which of the layouts a file has; None for another."""
    if "tensor" in file:
        return "Darcy" if "nu" in file else "1-D equations"
    if "density" in file and "Vx" in file:
        return "flow"
    if "velocity" in file and ("force" in file or "particles" in file):
        return "incompressible"
    return "seeds" if is_seeds(file) else None


def survey(file: h5py.File, *, boundary: str | None = None) -> Content:
    """What a file holds; ValueError naming the dataset that is not as its layout has it."""
    found = layout(file)
    if found is None:
        raise ValueError(
            f"{file.filename}: none of PDEBench's layouts; expected tensor, density and Vx, "
            f"velocity, or groups with data and grid, found {sorted(file)[:8]}."
        )
    look, condition = Survey(file, file.filename), boundary or BOUNDARY[found]
    readers = {
        "1-D equations": _equation,
        "flow": _flow,
        "Darcy": _darcy,
        "seeds": seeds,
        "incompressible": _incompressible,
    }
    return readers[found](look, condition)


def _equation(look: Survey, boundary: str) -> Content:
    rank = len(getattr(look.file["tensor"], "shape", ()))
    space = SPACE[: min(max(rank - 2, 1), 3)]
    state = (look.variable("tensor", f"nt{space}", [Field("u")]),)
    return _moving(look, state, (), space, boundary)


def _flow(look: Survey, boundary: str) -> Content:
    space = SPACE[: sum(f"V{a}" in look.file for a in SPACE)]
    names = ["density", "pressure", *(f"V{a}" for a in space)]
    state = tuple(look.variable(name, f"nt{space}", [Field(name)]) for name in names)
    return _moving(look, state, (), space, boundary)


def _darcy(look: Survey, boundary: str) -> Content:
    look.sizes["t"] = (1, "a steady solution")
    constants = (look.variable("nu", "nxy", [Field("nu")]),)
    look.dataset("tensor", "ntxy")
    state = (Variable((Field("u"),), "tensor", "nixy"),)
    return _content(look, state, constants, _grid(look, "xy", boundary), None)


def _incompressible(look: Survey, boundary: str) -> Content:
    look.sizes["i"] = (2, "the number of axes")
    state = [look.variable("velocity", "ntxyi", [Field("velocity", components=2)])]
    constants = []
    if "force" in look.file:
        constants.append(look.variable("force", "nxyi", [Field("force", components=2)]))
    if "particles" in look.file:
        look.sizes["j"] = (1, "one density")
        state.append(look.variable("particles", "ntxyj", [Field("particles")]))
    clock = times(look.dataset("t", "nt")[()], f"{look.name}: t")
    grid = Grid.box((look.size("x"), look.size("y")), boundary=boundary)
    return _content(look, tuple(state), tuple(constants), grid, clock)


def _moving(
    look: Survey,
    state: tuple[Variable, ...],
    constants: tuple[Variable, ...],
    space: str,
    boundary: str,
) -> Content:
    path = "t-coordinate"
    clock = look.dataset(path, "t", spare=SLIP)[: look.size("t")]
    clock = times(clock, f"{look.name}: {path}")
    return _content(look, state, constants, _grid(look, space, boundary), clock)


def _grid(look: Survey, space: str, boundary: str) -> Grid:
    axes = []
    for letter in space:
        path = f"{letter}-coordinate"
        points = look.dataset(path, letter)[()]
        axes.append(axis(letter, points, (boundary, boundary), f"{look.name}: {path}"))
    return Grid(tuple(axes))


def _content(
    look: Survey,
    state: tuple[Variable, ...],
    constants: tuple[Variable, ...],
    grid: Grid,
    clock: np.ndarray | None,
) -> Content:
    rows = look.size("n")
    values, words = numbers(dict(look.file.attrs))
    counter = values.pop("latestIndex", None)
    metadata = Metadata(
        name="pdebench",
        input_fields=tuple(f for v in constants for f in v.fields),
        target_fields=tuple(f for v in state for f in v.fields),
        grid=grid,
        parameters=tuple(values),
        dt=None if clock is None else median_step(clock),
        num_frames=None if clock is None else clock.shape[-1],
        provenance={
            "layout": f"PDEBench, {layout(look.file)}",
            **words,
            **({} if counter is None else {"latestIndex": counter}),
        },
    )
    parameters = np.tile(np.array(list(values.values()), dtype=np.float64), (rows, 1))
    return Content(metadata, rows, state, constants, parameters, clock)
