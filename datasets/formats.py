"""Which format is this? Files of other projects by what is in them, and a reader for each."""

from collections.abc import Sequence
from pathlib import Path

import h5py

from datasets import pdearena, pdebench, well
from datasets.hdf5 import open_file
from datasets.manifest import NAME
from datasets.neuralop_h5 import NeuralopHDF5Source
from datasets.pdearena_zarr import PDEArenaZarr, zarr_splits
from datasets.schema import SPLITS, Source
from datasets.trajectories import Trajectories
from datasets.trajectory_array import TrajectoryArray

FORMATS = ("well", "pdebench", "pdearena", "neuralop", "arrays")
WHOLE = "all"


def recognise(path: Path | str) -> str:
    """One of `FORMATS`; ValueError for anything else, saying what was found."""
    path = Path(path)
    if path.is_dir() and (path / NAME).is_file():
        raise ValueError(f"{path}: is a data set of this project already.")
    if path.suffix == ".npy":
        return "arrays"
    if zarr_splits(path):
        return "pdearena"
    with open_file(files(path)[0]) as file:
        return _content(file)


def files(path: Path | str) -> list[Path]:
    """The files of a data set: itself, those in a folder, or those in its data/train, valid and
    test.
    """
    path = Path(path)
    if folders := zarr_splits(path):
        return sorted(p for folder in folders.values() for p in folder.rglob("*") if p.is_file())
    if path.is_dir() and (path / "data").is_dir():
        splits = [split for split in SPLITS if (path / "data" / split).is_dir()]
        return [file for split in splits for file in well.files(path, split)]
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder.")
    return well.files(path, None)


def parts(
    path: Path | str,
    format: str,
    *,
    ndim: int = 2,
    dt: float | None = None,
    boundary: str | None = None,
    points: str = "cells",
) -> dict[str, Trajectories | Source]:
    """What a file or folder holds, by split; under `WHOLE` where it is not divided.

    `ndim`, `dt`, `boundary` and `points` are for the formats that do not say. Raises ValueError as
    the readers do.
    """
    path = Path(path)
    if format not in FORMATS:
        raise ValueError(f"format={format!r} is not one of {FORMATS}.")
    if format == "arrays":
        if dt is None:
            raise ValueError(f"{path}: give dt, the time between frames; the file does not say.")
        options = {"ndim": ndim, "dt": dt, "boundary": boundary or "open", "points": points}
        return {WHOLE: TrajectoryArray(path, **options)}
    found = files(path)
    if format == "well":
        if path.is_file() or not (path / "data").is_dir():
            return {WHOLE: well.WellTrajectories(path)}
        splits = [split for split in SPLITS if (path / "data" / split).is_dir()]
        return {split: well.WellTrajectories(path, split) for split in splits}
    if format == "pdearena":
        return dict(pdearena_readers(path, boundary))
    if format == "neuralop":
        options = {"boundary": boundary or "dirichlet", "points": points}
        return {WHOLE: NeuralopHDF5Source(found, ndim=ndim, **options)}
    return {WHOLE: pdebench_reader(found, boundary)}


def pdebench_reader(paths: Sequence[Path], boundary: str | None) -> Trajectories | Source:
    """The reader for the layout of the first file."""
    with open_file(paths[0]) as file:
        steady = pdebench.layout(file) == "Darcy"
    reader = pdebench.PDEBenchPairs if steady else pdebench.PDEBenchTrajectories
    return reader(paths, boundary=boundary)


def pdearena_readers(path: Path, boundary: str | None) -> dict[str, Trajectories]:
    """A reader for each split of PDEArena's files, HDF5 or Zarr; on the sphere `boundary` is
    known.
    """
    if folders := zarr_splits(path):
        return {split: PDEArenaZarr(folder) for split, folder in folders.items()}
    return {
        split: pdearena.PDEArenaTrajectories(names, split, boundary=boundary)
        for split, names in by_group(files(path)).items()
    }


def by_group(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """PDEArena's files by the groups in them."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        with open_file(path) as file:
            groups = pdearena.splits(file)
            if not groups:
                raise ValueError(
                    f"{path}: no group train, valid or test with u or pde_...; found "
                    f"{sorted(file)[:8]}."
                )
        for split in groups:
            found.setdefault(split, []).append(path)
    return {split: found[split] for split in SPLITS if split in found}


def _content(file: h5py.File) -> str:
    if "dimensions" in file and "t0_fields" in file:
        return "well"
    if pdearena.splits(file):
        return "pdearena"
    if pdebench.layout(file) is not None:
        return "pdebench"
    if "x" in file and "y" in file:
        return "neuralop"
    raise ValueError(
        f"{file.filename}: no format that is read here ({', '.join(FORMATS)}); found "
        f"{sorted(file)[:8]}."
    )
