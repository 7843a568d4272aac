"""Files in The Well's HDF5 layout: a reader of its data sets, and of any file that follows it.

    <base>/data/{train,valid,test}/*.h5 | *.hdf5

Specification: docs/data_format.md of PolymathicAI/the_well; `datasets.layout` describes it, and
our own shards follow it.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from datasets.foreign_files import ForeignTrajectories
from datasets.schema import SPLITS, Field, Metadata
from datasets.survey import SPACE, Content, Survey, Variable, numbers, text
from datasets.uniform import median_step
from datasets.well_grid import well_grid, well_times

SUFFIXES = (".h5", ".hdf5")
GROUPS = ("t0_fields", "t1_fields", "t2_fields")
ONE = "1"


class WellTrajectories(ForeignTrajectories):
    """Trajectories of one split of a folder in The Well's layout, or of a file (`Trajectories`).

    The state is every field that varies in time: scalars, then vectors, then tensors, the order of
    the_well's own reader; a tensor becomes ndim^2 scalar fields, row by row. Fields that do not
    vary in time are the constants. Axes along which a field does not vary, absent or of size 1,
    are tiled back. Scalars
    that do not vary in time are the parameters, after them the `simulation_parameters` among the
    attributes that are numbers. Sides are `periodic`, `open`, or for WALL `dirichlet` (`neumann`
    when the group's name says so). `without` names fields and scalars that are left out.

    Raises ValueError for grids that are not Cartesian and uniform, scalars that vary in time, and
    whatever does not fit its flags. It reads no masks inside the domain and no values of
    boundary conditions.
    """

    def __init__(
        self,
        path: Path | str,
        split: str | None = None,
        *,
        without: Sequence[str] = (),
        **options: Any,
    ):
        super().__init__(files(Path(path), split), partial(survey, without=without), **options)


def files(path: Path, split: str | None) -> list[Path]:
    """The HDF5 files of a split in the order of their names; a file is itself. ValueError for
    none.
    """
    if path.is_file():
        return [path]
    if split is not None and split not in SPLITS:
        raise ValueError(f"split={split!r} is not one of {SPLITS}.")
    folder = path / "data" / split if split is not None else path
    found = sorted(p for p in folder.glob("*") if p.suffix in SUFFIXES)
    if not found:
        raise ValueError(
            f"{folder}: no .h5 or .hdf5 file here; expected {path}/data/train, valid and test, or "
            "give the path of a file."
        )
    return found


def survey(file: h5py.File, *, without: Sequence[str] = ()) -> Content:
    """What a file in the layout holds; ValueError naming what is not as specified."""
    look = Survey(file, file.filename)
    for name in ("dimensions", "scalars", *GROUPS):
        if not isinstance(file.get(name), h5py.Group):
            raise ValueError(f"{look.name}: group {name} is missing; not in The Well's layout.")
    kind = text(file.attrs.get("grid_type", "cartesian"))
    if kind != "cartesian":
        raise ValueError(f"{look.name}: grid_type is {kind!r}; only cartesian grids are read.")
    axes = [text(name) for name in file["dimensions"].attrs.get("spatial_dims", ())]
    if not 1 <= len(axes) <= 3:
        raise ValueError(
            f"{look.name}: dimensions has spatial_dims {axes}; expected the names of 1 to 3 axes."
        )
    grid, clock = well_grid(look, axes), well_times(look)
    rows = _rows(look)
    fields: tuple[list[Variable], list[Variable]] = ([], [])
    for rank, group in enumerate(GROUPS):
        for name in _listed(file[group], without):
            variable, moving = _variable(look, group, name, rank, axes)
            fields[moving].append(variable)
    constants, state = map(tuple, fields)
    if not state:
        raise ValueError(f"{look.name}: no field varies in time; expected at least one.")
    names, values = _parameters(look, rows, without)
    count = clock.shape[-1]
    metadata = Metadata(
        name=text(file.attrs.get("dataset_name", "well")),
        input_fields=tuple(f for v in constants for f in v.fields),
        target_fields=tuple(f for v in state for f in v.fields),
        grid=grid,
        parameters=names,
        dt=median_step(clock),
        num_frames=count,
        provenance={"layout": "The Well"},
    )
    return Content(metadata, rows, state, constants, values, clock)


def _rows(look: Survey) -> int:
    if "n_trajectories" not in look.file.attrs:
        raise ValueError(f"{look.name}: root attribute n_trajectories is missing.")
    rows = int(look.file.attrs["n_trajectories"])
    known, origin = look.sizes.setdefault("n", (rows, "n_trajectories"))
    if known != rows:
        raise ValueError(f"{look.name}: n_trajectories is {rows}; {origin} has {known}.")
    return rows


def _listed(group: h5py.Group, without: Sequence[str]) -> list[str]:
    names = [text(name) for name in group.attrs.get("field_names", group.keys())]
    return [name for name in names if name not in without]


def _variable(
    look: Survey, group: str, name: str, rank: int, axes: Sequence[str]
) -> tuple[Variable, bool]:
    """A field, and whether it varies in time."""
    path = f"{group}/{name}"
    node = look.file.get(path)
    if not isinstance(node, h5py.Dataset):
        raise ValueError(f"{look.name}: {path} is listed in field_names and missing.")
    letters, moving = _leading(look, node)
    varying = np.atleast_1d(node.attrs.get("dim_varying", np.ones(len(axes), dtype=bool)))
    if len(varying) != len(axes):
        raise ValueError(
            f"{look.name}: {path} has dim_varying {varying.tolist()}; expected {len(axes)} flags."
        )
    rest, space = ("", "i", "ij")[rank], list(zip(SPACE, varying, strict=False))
    for component in "ij"[:rank]:
        look.sizes[component] = (len(axes), "n_spatial_dims")
    kept = letters + "".join(a for a, varies in space if varies) + rest
    if len(node.shape) != len(kept) and not all(varying):
        # the specification leaves out axes that do not vary, the_well's reader wants size 1
        look.sizes[ONE] = (1, "dim_varying")
        look.dataset(path, letters + "".join(a if varies else ONE for a, varies in space) + rest)
        kept = letters + SPACE[: len(axes)] + rest
    else:
        look.dataset(path, kept)
    if rank == 2:
        fields = [Field(f"{name}_{a}{b}") for a in axes for b in axes]
    else:
        fields = [Field(name, components=len(axes) if rank else 1)]
    return Variable(tuple(fields), path, kept), moving


def _parameters(
    look: Survey, rows: int, without: Sequence[str]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and values [rows, p]."""
    values: dict[str, np.ndarray] = {}
    for name in _listed(look.file["scalars"], without):
        path = f"scalars/{name}"
        node = look.file.get(path)
        if not isinstance(node, h5py.Dataset):
            raise ValueError(f"{look.name}: {path} is listed in field_names and missing.")
        letters, moving = _leading(look, node)
        if moving:
            raise ValueError(
                f"{look.name}: {path} varies in time; only scalars that do not are read as "
                f"parameters. Leave it out with without=[{name}]."
            )
        values[name] = np.broadcast_to(look.dataset(path, letters)[()], (rows,))
    listed = [text(name) for name in look.file.attrs.get("simulation_parameters", ())]
    attributes = {name: look.file.attrs[name] for name in listed if name in look.file.attrs}
    for name, value in numbers(attributes)[0].items():
        if name not in values and name not in without:
            values[name] = np.full(rows, value)
    columns = [np.asarray(column, dtype=np.float64) for column in values.values()]
    return tuple(values), np.stack(columns, axis=1) if columns else np.empty((rows, 0))


def _leading(look: Survey, node: h5py.Dataset) -> tuple[str, bool]:
    """The letters before those of space, and whether t is one."""
    moving = _flag(look, node, "time_varying")
    return "n" * _flag(look, node, "sample_varying") + "t" * moving, moving


def _flag(look: Survey, node: h5py.Dataset, name: str) -> bool:
    if name not in node.attrs:
        raise ValueError(f"{look.name}: {node.name.lstrip('/')} has no attribute {name}.")
    return bool(node.attrs[name])
