"""PDEBench's layout with one group for each seed: reaction-diffusion, sorption, shallow water."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np
import yaml

from datasets.schema import Field, Metadata
from datasets.survey import SPACE, Content, Survey, Variable, text
from datasets.uniform import axis, median_step, times
from solvers.grid import Axis, Grid

MAX_TEXT = 2**16
ALIAS = re.compile(r"(^|[:,\[{-])\s*\*\w", re.MULTILINE)


def is_seeds(file: h5py.File) -> bool:
    """Whether the first group has data and grid."""
    first = next((file[name] for name in file), None)
    return isinstance(first, h5py.Group) and "data" in first and "grid" in first


def seeds(look: Survey, boundary: str) -> Content:
    """data [t, *space, c] of every group; grid, time and shape must be those of the first.

    Numbers of the configurations that differ between seeds are parameters, the seed itself and
    what all share are not: that stands in the provenance.
    """
    groups = tuple(name for name in look.file if isinstance(look.file[name], h5py.Group))
    first = look.file[groups[0]]
    space = SPACE[: min(max(len(getattr(first["data"], "shape", ())) - 2, 1), 3)]
    axes = f"t{space}i"
    for name in groups:
        look.dataset(f"{name}/data", axes)
    clock = times(look.dataset(f"{groups[0]}/grid/t", "t")[()], f"{look.name}: {groups[0]}/grid/t")
    grid = Grid(tuple(_axis(look, groups[0], a, boundary) for a in space))
    _require_same_grid(look, groups, space)
    names, values, shared = _parameters(look, groups)
    count = look.size("i")
    fields = [Field("u")] if count == 1 else [Field(f"u_{i}") for i in range(count)]
    metadata = Metadata(
        name="pdebench",
        input_fields=(),
        target_fields=tuple(fields),
        grid=grid,
        parameters=names,
        dt=median_step(clock),
        num_frames=len(clock),
        provenance={"layout": "PDEBench, seeds", **shared},
    )
    state = (Variable(tuple(fields), "{}/data", axes),)
    return Content(metadata, len(groups), state, (), values, clock, groups)


def _axis(look: Survey, group: str, letter: str, boundary: str) -> Axis:
    path = f"{group}/grid/{letter}"
    points = look.dataset(path, letter)[()]
    return axis(letter, points, (boundary, boundary), f"{look.name}: {path}")


def _require_same_grid(look: Survey, groups: tuple[str, ...], space: str) -> None:
    """Sizes and ends of the coordinates and times of every group are those of the first."""
    for letter in (*space, "t"):
        expected: np.ndarray | None = None
        for name in groups:
            stored = look.dataset(f"{name}/grid/{letter}", letter)
            ends = np.array([stored[0], stored[-1]], dtype=np.float64)
            expected = ends if expected is None else expected
            if np.abs(ends - expected).max() > 1e-4 * abs(expected[1] - expected[0]):
                raise ValueError(
                    f"{look.name}: {name}/grid/{letter} runs from {ends[0]:g} to {ends[1]:g}; "
                    f"expected {expected[0]:g} to {expected[1]:g} as in {groups[0]}."
                )


def _parameters(
    look: Survey, groups: tuple[str, ...]
) -> tuple[tuple[str, ...], np.ndarray, dict[str, str]]:
    """Names, values [rows, p], and what all configurations share."""
    rows = [_settings(look, name) for name in groups]
    common = [key for key in rows[0] if all(key in row for row in rows)]
    names = [
        key
        for key in common
        if key.rsplit(".")[-1] != "seed"
        and all(_is_number(row[key]) for row in rows)
        and any(row[key] != rows[0][key] for row in rows)
    ]
    shared = {key: str(rows[0][key]) for key in common if all(r[key] == rows[0][key] for r in rows)}
    values = np.array([[float(row[key]) for key in names] for row in rows], dtype=np.float64)
    return tuple(names), values.reshape(len(groups), len(names)), shared


def _settings(look: Survey, group: str) -> dict[str, Any]:
    """Entries of a group's configuration by their path, such as sim.Du; {} where there is none."""
    if "config" not in look.file[group].attrs:
        return {}
    written = text(look.file[group].attrs["config"])
    if len(written) > MAX_TEXT or ALIAS.search(written):  # aliases can stand for billions
        raise ValueError(
            f"{look.name}: the config of {group} has aliases or more than {MAX_TEXT} characters."
        )
    try:
        settings = yaml.safe_load(written)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{look.name}: the config of {group} is not YAML ({reason}).") from error
    return dict(_leaves(settings if isinstance(settings, Mapping) else {}, ""))


def _leaves(settings: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
