"""`python -m datasets.export FOLDER DESTINATION.zarr`: a data set of ours as Zarr, for xarray.

One group for each split: `xarray.open_zarr(DESTINATION, group="train")`. Fields are
[sample, (time,) (component,) *space] in chunks of one frame of one sample; axes and times are
coordinates, parameters are variables over samples. Needs the extra `export` (zarr; xarray to read
it comfortably).
"""

import argparse
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from datasets.manifest import Manifest
from datasets.reader import ShardedSource, ShardedTrajectories
from datasets.schema import SPLITS, Field, Metadata
from datasets.shard_converter import named

if TYPE_CHECKING:
    import zarr

EXTRA = "export"
MAX_BATCH_BYTES = 2**25


def export(folder: Path | str, destination: Path | str) -> Path:
    """Write the data set in `folder` to the new Zarr store `destination` and return it.

    Samples are copied a few at a time, in float32 as they are stored. Raises ValueError when the
    extra is not installed, the destination exists, or the data set is incomplete or altered; what
    was written until then is left there.
    """
    try:
        import zarr
    except ImportError as error:
        raise ValueError(
            f"zarr is not installed ({error}): pip install '.[{EXTRA}]' installs what this needs."
        ) from error
    manifest, destination = Manifest(folder), Path(destination)
    if destination.suffix != ".zarr" or destination.exists():
        raise ValueError(f"{destination}: expected the name of a new folder that ends in .zarr.")
    root = zarr.create_group(str(destination), attributes=_about(manifest))
    for split in SPLITS:
        if manifest.header.counts[split]:
            _write(root.create_group(split, attributes=_about(manifest)), manifest, split)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata")  # xarray reads it faster so
        zarr.consolidate_metadata(str(destination))
    return destination


def _about(manifest: Manifest) -> dict[str, Any]:
    meta = manifest.metadata
    return {
        "name": meta.name,
        "description": meta.describe(),
        "hash": manifest.header.hash,
        "boundary": {axis.name: list(axis.boundary) for axis in meta.grid.axes},
        "provenance": {str(key): str(value) for key, value in meta.provenance.items()},
    }


def _write(group: "zarr.Group", manifest: Manifest, split: str) -> None:
    meta, count = manifest.metadata, manifest.header.counts[split]
    space = [axis.name for axis in meta.grid.axes]
    for axis in meta.grid.axes:
        _put(group, axis.name, axis.coordinates().numpy(), (axis.name,))
    if meta.num_frames is not None:
        _put(group, "time", meta.dt * np.arange(meta.num_frames), ("time",))
    if any(f.components > 1 for f in meta.input_fields + meta.target_fields):
        _put(group, "component", np.arange(meta.ndim), ("component",))
    timed = ("time",) if meta.num_frames is not None else ()
    arrays = {}
    for fields, lead in ((meta.input_fields, ()), (meta.target_fields, timed)):
        for field in fields:
            dims = ("sample", *lead, *("component",) * (field.components > 1), *space)
            shape = (count, *(meta.num_frames,) * len(lead), *_frame(field, meta))
            arrays[field.name] = group.create_array(
                field.name,
                shape=shape,
                chunks=(1,) * (1 + len(lead)) + _frame(field, meta),
                dtype="float32",
                dimension_names=dims,
                attributes={"units": field.units},
            )
    values = {name: np.empty(count, dtype="f4") for name in meta.parameters}
    for start, fields, parameters in _batches(manifest, split):
        stop = start + len(parameters)
        for name, block in fields.items():
            arrays[name][start:stop] = block.numpy()
        for column, name in enumerate(meta.parameters):
            values[name][start:stop] = parameters[:, column]
    for name, column in values.items():
        _put(group, name, column, ("sample",))


def _put(group: "zarr.Group", name: str, values: np.ndarray, dims: tuple[str, ...]) -> None:
    group.create_array(name, data=np.ascontiguousarray(values), dimension_names=dims)


def _frame(field: Field, meta: Metadata) -> tuple[int, ...]:
    return (*(field.components,) * (field.components > 1), *meta.grid.shape)


def _batches(manifest: Manifest, split: str) -> Iterator[tuple[int, dict[str, Tensor], np.ndarray]]:
    """First sample, fields by name with the axes of the store, and parameters [b, p]."""
    meta = manifest.metadata
    if meta.num_frames is None:
        source = ShardedSource(manifest.folder, split)
        numbers = (meta.in_channels + meta.out_channels) * math.prod(meta.grid.shape)
        step = max(1, MAX_BATCH_BYTES // (4 * numbers))
        for start in range(0, len(source), step):
            batch = source.__getitems__(range(start, min(start + step, len(source))))
            fields = named(batch.input, meta.input_fields, meta.ndim)
            fields |= named(batch.target, meta.target_fields, meta.ndim)
            yield start, fields, batch.parameters.numpy()
        return
    source = ShardedTrajectories(manifest.folder, split)
    for row in range(len(source)):
        state = source.read(row, slice(0, meta.num_frames))
        fields = named(source.constants(row)[None], meta.input_fields, meta.ndim)
        fields |= named(state[None], meta.target_fields, meta.ndim)
        yield row, fields, source.parameters(row).numpy()[None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the store; 0, or 1 with one line that says what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m datasets.export", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("folder", type=Path, help="the folder of a data set, with its manifest")
    parser.add_argument("destination", type=Path, help="new folder whose name ends in .zarr")
    try:
        print(export(**vars(parser.parse_args(arguments))))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
