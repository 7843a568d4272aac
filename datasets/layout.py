"""The Well's HDF5 layout: how the fields of one shard lie in a file.

    /                     dataset_name, grid_type, n_spatial_dims, n_trajectories ...
    /dimensions           time [t], one coordinate dataset per axis
    /boundary_conditions  one group per axis and condition: bc_type, mask along the axis
    /scalars              one dataset [b] per parameter
    /t0_fields            scalar fields [b, t, *space]
    /t1_fields            vector fields [b, t, *space, ndim]
    /t2_fields            empty

Specification: docs/data_format.md of PolymathicAI/the_well. Fields are float32. Those that do not
change in time have no time axis; a steady solution is one frame at t = 0. A chunk is one frame of
one trajectory and carries a Fletcher checksum. The layout knows no Neumann side: Dirichlet and
Neumann sides are both `WALL`, and the name of the group says which. Nothing depends on the clock,
so equal numbers give equal bytes.
"""

import io
from collections.abc import Mapping, Sequence

import h5py
import numpy as np
from torch import Tensor

from datasets.schema import Field, Metadata

DTYPE = np.dtype("float32")
LIBVER = ("v110", "v110")
BC_TYPES = {"periodic": "PERIODIC", "dirichlet": "WALL", "neumann": "WALL", "open": "OPEN"}


def order(field: Field, ndim: int) -> int:
    """Tensor order of a field: 0 with one component, 1 with one per space dimension."""
    if field.components not in (1, ndim):
        raise ValueError(
            f"field {field.name!r} has {field.components} components; in {ndim} space dimensions "
            f"the layout has fields with 1 or {ndim}. Store the components as fields of their own."
        )
    return int(field.components > 1)


def dataset_path(field: Field, ndim: int) -> str:
    return f"t{order(field, ndim)}_fields/{field.name}"


def arrange(metadata: Metadata, fields: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Float32 arrays with the axes of the layout.

    Scalar fields come as [b, *space] or [b, t, *space], vector fields as [b, ndim, *space] or
    [b, t, ndim, *space]. Targets of a steady map get their one frame. Numbers too large become
    infinite. Raises ValueError on wrong names or shapes.
    """
    known = {f.name: f for f in metadata.input_fields + metadata.target_fields}
    if set(fields) != set(known):
        raise ValueError(f"expected the fields {sorted(known)}, got {sorted(fields)}.")
    targets = {f.name for f in metadata.target_fields}
    arrays = {}
    for name, field in known.items():
        array, rank = fields[name].numpy(force=True), order(field, metadata.ndim)
        space = (metadata.ndim,) * rank + metadata.grid.shape
        if array.ndim - len(space) not in (1, 2) or array.shape[-len(space) :] != space:
            raise ValueError(f"field {name!r}: expected [b, (t,) {space}], got {array.shape}.")
        if rank:
            array = np.moveaxis(array, -1 - metadata.ndim, -1)
        if name in targets and metadata.dt is None:
            array = array[:, None]
        with np.errstate(over="ignore"):
            arrays[name] = np.ascontiguousarray(array, dtype=DTYPE)
    return arrays


def encode(
    metadata: Metadata,
    arrays: Mapping[str, np.ndarray],
    parameters: Mapping[str, np.ndarray] | None = None,
) -> bytes:
    """The bytes of a file with the arrays of `arrange` and the parameters [b] of the samples."""
    parameters = parameters or {}
    if set(parameters) != set(metadata.parameters):
        raise ValueError(f"expected parameters {metadata.parameters}, got {tuple(parameters)}.")
    ndim, buffer = metadata.ndim, io.BytesIO()
    fields = {f.name: f for f in metadata.input_fields + metadata.target_fields}
    timed = {name: arrays[name].ndim > 1 + ndim + order(fields[name], ndim) for name in fields}
    num_frames = max([arrays[name].shape[1] for name in fields if timed[name]], default=1)
    num_samples = len(next(iter(arrays.values())))
    with h5py.File(buffer, "w", libver=LIBVER) as file:
        file.attrs["dataset_name"] = metadata.name
        file.attrs["grid_type"] = "cartesian"
        file.attrs["n_spatial_dims"] = ndim
        file.attrs["n_trajectories"] = num_samples
        file.attrs["simulation_parameters"] = _names([])
        _write_dimensions(file, metadata, num_frames)
        _write_boundaries(file, metadata)
        scalars = file.create_group("scalars")
        scalars.attrs["field_names"] = _names(metadata.parameters)
        for name in metadata.parameters:
            values = np.asarray(parameters[name], dtype=DTYPE)
            _flag(scalars.create_dataset(name, data=values), sample=True, time=False)
        for rank in range(3):
            group = file.create_group(f"t{rank}_fields")
            names = [name for name, field in fields.items() if order(field, ndim) == rank]
            group.attrs["field_names"] = _names(names)
            for name in names:
                frame = arrays[name].shape[1 + timed[name] :]
                dataset = group.create_dataset(
                    name,
                    data=arrays[name],
                    chunks=(1,) * (1 + timed[name]) + frame,
                    fletcher32=True,
                )
                dataset.attrs["dim_varying"] = np.ones(ndim, dtype=bool)
                _flag(dataset, sample=True, time=timed[name])
    return buffer.getvalue()


def read_field(dataset: h5py.Dataset, field: Field, ndim: int, rows: Sequence[int]) -> np.ndarray:
    """Rows of a steady field, shape [len(rows), components, *space]."""
    rank = order(field, ndim)
    frame = (0,) if len(dataset.shape) == 2 + ndim + rank else ()
    first, last = rows[0], rows[-1]
    if list(rows) == list(range(first, last + 1)):
        block = dataset[(slice(first, last + 1), *frame)]
    else:
        block = np.stack([dataset[(row, *frame)] for row in rows])
    return np.moveaxis(block, -1, 1) if rank else block[:, None]


def read_frames(
    dataset: h5py.Dataset, field: Field, ndim: int, row: int, frames: slice | None
) -> np.ndarray:
    """Frames [t, components, *space] of one trajectory; [components, *space] of a field without
    time, `frames` None.
    """
    block = dataset[row] if frames is None else dataset[row, frames]
    at = block.ndim - ndim - order(field, ndim)
    return np.moveaxis(block, -1, at) if order(field, ndim) else np.expand_dims(block, at)


def _write_dimensions(file: h5py.File, metadata: Metadata, num_frames: int) -> None:
    group = file.create_group("dimensions")
    group.attrs["spatial_dims"] = _names([axis.name for axis in metadata.grid.axes])
    times = np.arange(num_frames) * (metadata.dt or 0.0)
    time = group.create_dataset("time", data=times.astype(DTYPE))
    time.attrs["sample_varying"] = False
    # The format's checker asks every dataset for this flag: time varies over its own axis.
    time.attrs["time_varying"] = True
    for axis in metadata.grid.axes:
        points = axis.coordinates().numpy().astype(DTYPE)
        _flag(group.create_dataset(axis.name, data=points), sample=False, time=False)


def _write_boundaries(file: h5py.File, metadata: Metadata) -> None:
    group = file.create_group("boundary_conditions")
    for axis in metadata.grid.axes:
        for condition in sorted(set(axis.boundary)):
            kind = BC_TYPES[condition]
            side = group.create_group(f"{axis.name}_{kind.lower()}_{condition}")
            side.attrs["associated_dims"] = _names([axis.name])
            side.attrs["associated_fields"] = _names([])
            side.attrs["bc_type"] = kind
            _flag(side, sample=False, time=False)
            mask = np.zeros(axis.size, dtype=bool)
            mask[[0, -1]] = [condition == lower_or_upper for lower_or_upper in axis.boundary]
            side.create_dataset("mask", data=mask)


def _flag(node: h5py.Dataset | h5py.Group, *, sample: bool, time: bool) -> None:
    node.attrs["sample_varying"] = sample
    node.attrs["time_varying"] = time


def _names(names: Sequence[str]) -> np.ndarray:
    """An attribute that holds text even when there is none: an empty list would become floats."""
    return np.array(list(names), dtype=h5py.string_dtype())
