"""PDEArena's HDF5 files: one group named train, valid or test.

    flow                   u, vx, vy [n, t, x, y]; t [n, t], x [n, x], y [n, y], buo_y [n]
    Kuramoto-Sivashinsky   pde_... [n, t, x]; dt, dx, v [n]

Gupta & Brandstetter, Towards multi-spatiotemporal-scale generalized PDE modeling, TMLR 2023.
Numbers are float64 in part, and are cast once. Buoyancy and viscosity `v` are parameters. The
length of the Kuramoto-Sivashinsky domain may differ between trajectories: the grid is the unit
interval then, and dx a parameter.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from datasets.foreign_files import ForeignTrajectories
from datasets.schema import SPLITS, Field, Metadata
from datasets.survey import Content, Survey
from datasets.uniform import SPACING, axis, median_step, times
from solvers.grid import Axis, Grid

FLOW = ("u", "vx", "vy")
PARAMETERS = ("buo_y", "v")


class PDEArenaTrajectories(ForeignTrajectories):
    """Trajectories of the files with the group `split` (`Trajectories`).

    `boundary` holds on every side: by default `dirichlet` for the flow in a closed box and
    `periodic` for Kuramoto-Sivashinsky; the files do not say.
    """

    def __init__(
        self,
        paths: Sequence[Path | str],
        split: str,
        *,
        boundary: str | None = None,
        **options: Any,
    ):
        super().__init__(paths, partial(survey, split=split, boundary=boundary), **options)


def splits(file: h5py.File) -> tuple[str, ...]:
    """The groups of a file that hold data of PDEArena."""
    groups = ((name, file.get(name)) for name in SPLITS)
    return tuple(n for n, g in groups if isinstance(g, h5py.Group) and ("u" in g or _series(g)))


def survey(file: h5py.File, *, split: str, boundary: str | None = None) -> Content:
    """What the group `split` holds; ValueError naming the dataset that is not as expected."""
    if split not in splits(file):
        raise ValueError(
            f"{file.filename}: no group {split} with u, vx and vy or with pde_...; found "
            f"{sorted(file)[:8]}."
        )
    look, series = Survey(file, file.filename), _series(file[split])
    if series:
        state = (look.variable(f"{split}/{series}", "ntx", [Field("u")]),)
        grid, values = _interval(look, split, boundary or "periodic")
        kind = "Kuramoto-Sivashinsky"
    else:
        state = tuple(look.variable(f"{split}/{n}", "ntxy", [Field(n)]) for n in FLOW)
        grid, values = _box(look, split, boundary or "dirichlet"), {}
        kind = "flow"
    clock = _times(look, split)
    for name in PARAMETERS:
        if name in file[split]:
            values[name] = look.dataset(f"{split}/{name}", "n")[()].astype(np.float64)
    rows = look.size("n")
    metadata = Metadata(
        name="pdearena",
        input_fields=(),
        target_fields=tuple(f for v in state for f in v.fields),
        grid=grid,
        parameters=tuple(values),
        dt=median_step(clock),
        num_frames=clock.shape[-1],
        provenance={"layout": f"PDEArena, {kind}"},
    )
    parameters = np.stack(list(values.values()), axis=1) if values else np.empty((rows, 0))
    return Content(metadata, rows, state, (), parameters, clock)


def _series(group: h5py.Group) -> str:
    """Name of the dataset of an equation in 1-D; empty if there is none."""
    return next((name for name in group if name.startswith("pde_")), "")


def _times(look: Survey, split: str) -> np.ndarray:
    """[n, t]: stored, or from dt [n]."""
    path = f"{split}/t"
    if path in look.file:
        return times(look.dataset(path, "nt")[()], f"{look.name}: {path}")
    dt = look.dataset(f"{split}/dt", "n")[()].astype(np.float64)
    return times(dt[:, None] * np.arange(look.size("t")), f"{look.name}: {split}/dt")


def _box(look: Survey, split: str, boundary: str) -> Grid:
    axes = []
    for letter in "xy":
        path = f"{split}/{letter}"
        points = look.dataset(path, f"n{letter}")[()].astype(np.float64)
        far = np.abs(points - points[0]).max()
        if not far <= SPACING * abs(points[0, -1] - points[0, 0]):
            raise ValueError(
                f"{look.name}: {path} differs between trajectories by up to {far:.3g}; expected "
                "one grid."
            )
        axes.append(axis(letter, points[0], (boundary, boundary), f"{look.name}: {path}"))
    return Grid(tuple(axes))


def _interval(look: Survey, split: str, boundary: str) -> tuple[Grid, dict[str, np.ndarray]]:
    """The grid, and dx as a parameter where it differs between trajectories."""
    size, path = look.size("x"), f"{split}/dx"
    dx = look.dataset(path, "n")[()].astype(np.float64)
    if not (np.isfinite(dx).all() and (dx > 0).all()):
        raise ValueError(f"{look.name}: {path} must be finite and above 0, found {dx.min():.3g}.")
    same = np.ptp(dx) <= SPACING * dx[0]
    upper = size * float(dx[0]) if same else 1.0
    grid = Grid((Axis("x", size, 0.0, upper, (boundary, boundary), "left"),))
    return grid, {} if same else {"dx": dx}
