"""Axes, sides and times of a file in The Well's layout."""

from collections.abc import Sequence

import numpy as np

from datasets.survey import SPACE, Survey, text
from datasets.uniform import axis, times
from solvers.grid import Grid

SIDES = {"PERIODIC": "periodic", "WALL": "dirichlet", "OPEN": "open"}


def well_grid(look: Survey, names: Sequence[str]) -> Grid:
    """The axes of `dimensions`, and what `boundary_conditions` says of their sides."""
    axes = []
    for letter, name in zip(SPACE, names, strict=False):
        path = f"dimensions/{name}"
        points = look.dataset(path, letter)
        if points.attrs.get("time_varying", False):
            raise ValueError(f"{look.name}: {path} varies in time; only fixed grids are read.")
        axes.append((name, points[()], _sides(look, name)))
    where = look.name
    return Grid(tuple(axis(n, p, s, f"{where}: dimensions/{n}") for n, p, s in axes))


def _sides(look: Survey, name: str) -> tuple[str, str]:
    """Conditions on the lower and the upper side of an axis: open unless the file says otherwise.

    A wall counts where it covers the whole side, the others where they touch it.
    """
    sides = ["open", "open"]
    groups = look.file.get("boundary_conditions", {})
    for label, group in groups.items():
        along = [text(dim) for dim in group.attrs.get("associated_dims", ())]
        kind = text(group.attrs.get("bc_type", "")).upper()
        if kind not in SIDES:
            raise ValueError(
                f"{look.name}: boundary_conditions/{label} has bc_type {kind!r}; expected "
                f"{', '.join(SIDES)}."
            )
        if name not in along or "mask" not in group:
            continue
        mask, wall = np.asarray(group["mask"][()], dtype=bool), kind == "WALL"
        if mask.ndim != len(along):
            raise ValueError(
                f"{look.name}: boundary_conditions/{label}/mask has shape {mask.shape}; expected "
                f"one axis for each of {along}."
            )
        condition = "neumann" if wall and "neumann" in label else SIDES[kind]
        for end, side in enumerate((0, -1)):
            touched = mask.take(side, axis=along.index(name))
            if touched.all() if wall else touched.any():
                sides[end] = condition
    return sides[0], sides[1]


def well_times(look: Survey) -> np.ndarray:
    """[t], or [rows, t] where they differ between samples."""
    path, found = "dimensions/time", look.file.get("dimensions/time")
    by_sample = found is not None and len(found.shape) == 2
    return times(look.dataset(path, "nt" if by_sample else "t")[()], f"{look.name}: {path}")
