"""Does an HDF5 file follow The Well's layout? See `layout` for the specification."""

from collections.abc import Iterator

import h5py
import numpy as np

from datasets.layout import BC_TYPES

ROOT_ATTRIBUTES = {
    "dataset_name": str,
    "grid_type": str,
    "n_spatial_dims": np.integer,
    "n_trajectories": np.integer,
    "simulation_parameters": np.ndarray,
}
FIELD_GROUPS = ("t0_fields", "t1_fields", "t2_fields")
GROUPS = ("dimensions", "boundary_conditions", "scalars", *FIELD_GROUPS)
SPACING = 1e-3


def problems(file: h5py.File) -> Iterator[str]:
    """One line for each rule that the file breaks; nothing for a file in the layout."""
    missing = list(_missing(file))
    yield from missing
    if not missing:
        yield from _grid(file)
        yield from _boundaries(file)
        yield from _datasets(file)


def _missing(file: h5py.File) -> Iterator[str]:
    for name, kind in ROOT_ATTRIBUTES.items():
        if not isinstance(file.attrs.get(name), kind):
            yield f"root attribute {name} is missing or no {kind.__name__}"
    for name in GROUPS:
        if name not in file:
            yield f"group {name} is missing"
        elif name in ("scalars", *FIELD_GROUPS) and "field_names" not in file[name].attrs:
            yield f"{name}: attribute field_names is missing"
    if "dimensions" in file:
        axes = list(file["dimensions"].attrs.get("spatial_dims", ()))
        if len(axes) != file.attrs.get("n_spatial_dims"):
            yield f"dimensions: spatial_dims {axes} are not n_spatial_dims names"
        yield from (
            f"dimensions/{n} is missing" for n in ("time", *axes) if n not in file["dimensions"]
        )


def _grid(file: h5py.File) -> Iterator[str]:
    """Space and time are sampled at equal distances."""
    for name in ("time", *file["dimensions"].attrs["spatial_dims"]):
        steps = np.diff(file["dimensions"][name][()].astype(np.float64), axis=-1)
        if steps.size and not np.all(np.abs(steps - steps.mean()) <= SPACING * abs(steps.mean())):
            bounds = f"steps from {steps.min():.4g} to {steps.max():.4g}"
            yield f"dimensions/{name} is not uniform: {bounds}"
        elif steps.size and steps.mean() <= 0:
            yield f"dimensions/{name} does not increase"


def _boundaries(file: h5py.File) -> Iterator[str]:
    axes = list(file["dimensions"].attrs["spatial_dims"])
    for name, side in file["boundary_conditions"].items():
        kind = str(side.attrs.get("bc_type", "")).upper()
        if kind not in BC_TYPES.values():
            yield f"boundary_conditions/{name}: bc_type {kind!r} is not PERIODIC, WALL or OPEN"
        along = list(side.attrs.get("associated_dims", ()))
        if not along or not set(along) <= set(axes):
            yield f"boundary_conditions/{name}: associated_dims {along} are not axes"
        elif "mask" not in side or side["mask"].shape != tuple(_size(file, a) for a in along):
            yield f"boundary_conditions/{name}: mask is missing or does not fit {along}"


def _datasets(file: h5py.File) -> Iterator[str]:
    """Every listed scalar and field is there, with the flags and the shape that they imply."""
    axes = list(file["dimensions"].attrs["spatial_dims"])
    for group in ("scalars", *FIELD_GROUPS):
        is_field = group in FIELD_GROUPS
        flags = ("sample_varying", "time_varying") + ("dim_varying",) * is_field
        names = list(file[group].attrs["field_names"])
        for stray in sorted(set(file[group]) - set(names)):
            yield f"{group}/{stray} is not listed in field_names"
        for name in names:
            where = f"{group}/{name}"
            absent = [f for f in flags if name not in file[group] or f not in file[where].attrs]
            if absent:
                yield f"{where}: the dataset or its attributes {absent} are missing"
                continue
            dataset = file[where]
            expected = (int(file.attrs["n_trajectories"]),) * bool(dataset.attrs["sample_varying"])
            expected += (_size(file, "time"),) * bool(dataset.attrs["time_varying"])
            if is_field:
                kept = zip(axes, dataset.attrs["dim_varying"], strict=True)
                expected += tuple(_size(file, axis) for axis, varying in kept if varying)
                expected += (len(axes),) * FIELD_GROUPS.index(group)
            if dataset.shape != expected:
                yield f"{where} has shape {dataset.shape}, expected {expected}"
            if dataset.dtype.kind != "f":
                yield f"{where} holds {dataset.dtype}, expected floating-point numbers"


def _size(file: h5py.File, dimension: str) -> int:
    return file["dimensions"][dimension].shape[-1]
