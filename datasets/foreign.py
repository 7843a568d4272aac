"""The data sets of other projects that `data=...` chooses from, read where they lie."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.dataset import own_grid
from datasets.formats import WHOLE, by_group, files, pdearena_readers, pdebench_reader
from datasets.neuralop_h5 import NeuralopHDF5Source
from datasets.pdearena_zarr import zarr_splits
from datasets.schema import SPLITS, Source
from datasets.split import split as split_source
from datasets.split import split_trajectories
from datasets.store import fingerprint
from datasets.trajectories import Trajectories, require_apart
from datasets.trajectory_array import TrajectoryArray
from datasets.well import WellTrajectories
from datasets.windows import Windows

Sizes = Mapping[str, float | int]


class ForeignData:
    """Splits of files (a `DataSet`), by the parts of their trajectories or pairs.

    `window` are the settings of `Windows`, None for pairs. `roles` are the files of the splits, or
    under `WHOLE` those that samples are divided among; `division` says how. Numbers are read when
    they are needed: a NaN is refused then, with its place. Files are known by `fingerprint`.
    """

    def __init__(
        self,
        name: str,
        parts: Mapping[str, Trajectories | Source],
        *,
        window: Mapping[str, Any] | None,
        roles: Mapping[str, Sequence[Path]],
        division: str,
    ):
        missing = [split for split in SPLITS if split not in parts]
        if missing:
            raise ValueError(
                f"{name}: no {' and no '.join(missing)} split in {', '.join(map(str, parts))}; "
                "training needs train, valid and test."
            )
        self._name, self._roles, self._division = name, roles, division
        self._parts = {split: _windows(parts[split], window) for split in SPLITS}

    def source(self, split: str, resolution: int | Sequence[int] | None = None) -> Source:
        return own_grid(self._parts[split], resolution)

    def facts(self) -> dict[str, Any]:
        known = {role: [fingerprint(path) for path in paths] for role, paths in self._roles.items()}
        divided = known.get(WHOLE, [])
        train = [key for role in known if role not in (WHOLE, "test") for key in known[role]]
        meta = self._parts["train"].metadata
        return {
            "name": self._name,
            "path": ", ".join(str(paths[0].parent) for paths in self._roles.values() if paths),
            "hash": hashlib.sha256("".join(sum(known.values(), [])).encode()).hexdigest()[:8],
            "splits": {split: len(source) for split, source in self._parts.items()},
            "split": self._division,
            "train_files": divided + train,
            "test_files": divided + known.get("test", []),
            "description": meta.describe(),
            "provenance": {
                **meta.provenance,
                **{f"fingerprints of {role}": " ".join(k)[:1300] for role, k in known.items()},
            },
        }


class WellFolder(ForeignData):
    """A folder in The Well's layout, data/train, data/valid and data/test below `path`.

    `without` names fields and scalars that are left out.
    """

    def __init__(self, path: str, *, window: Mapping[str, Any], without: Sequence[str] = ()):
        parts = {s: WellTrajectories(path, s, without=tuple(without)) for s in SPLITS}
        require_apart(parts)
        roles = {split: part.paths for split, part in parts.items()}
        super().__init__(_name(parts), parts, window=window, roles=roles, division="by folder")


class PDEBenchFiles(ForeignData):
    """A file of PDEBench, or a folder with files of one equation.

    Whole trajectories are drawn for the splits of the sizes `split` by `seed`. `boundary` is the
    condition on every side where it is not that of `datasets.pdebench.BOUNDARY`. For Darcy files,
    a steady map, `window` is null.
    """

    def __init__(
        self,
        path: str,
        *,
        window: Mapping[str, Any] | None,
        split: Sizes,
        seed: int = 0,
        boundary: str | None = None,
    ):
        paths = files(path)
        whole = pdebench_reader(paths, boundary)
        super().__init__(window=window, **_drawn(whole, split, seed, paths))


class PDEArenaFiles(ForeignData):
    """PDEArena's files in a folder: HDF5, whose groups train, valid and test are the splits, or
    Zarr folders with such names.
    """

    def __init__(self, path: str, *, window: Mapping[str, Any], boundary: str | None = None):
        parts = pdearena_readers(Path(path), boundary)
        folders = zarr_splits(Path(path))
        roles = by_group(files(path)) if not folders else {s: _below(p) for s, p in folders.items()}
        require_apart(parts)
        super().__init__("pdearena", parts, window=window, roles=roles, division="by group")


class NeuralopHDF5(ForeignData):
    """neuraloperator's HDF5 pairs `x` and `y`, a file or a folder of files, read lazily."""

    def __init__(
        self,
        path: str,
        *,
        split: Sizes,
        seed: int = 0,
        ndim: int = 2,
        boundary: str = "dirichlet",
        points: str = "left",
    ):
        paths = files(path)
        whole = NeuralopHDF5Source(paths, ndim=ndim, boundary=boundary, points=points)
        super().__init__(window=None, **_drawn(whole, split, seed, paths))


class TrajectoryArrays(ForeignData):
    """Your own solutions over time in a `.npy` file, [n, t, *space] or [n, t, c, *space]."""

    def __init__(
        self,
        path: str,
        *,
        ndim: int,
        dt: float,
        boundary: str,
        points: str,
        window: Mapping[str, Any],
        split: Sizes,
        seed: int = 0,
    ):
        whole = TrajectoryArray(path, ndim=ndim, dt=dt, boundary=boundary, points=points)
        super().__init__(window=window, **_drawn(whole, split, seed, [Path(path)]))


def _drawn(
    whole: Trajectories | Source, sizes: Sizes, seed: int, paths: Sequence[Path]
) -> dict[str, Any]:
    """Parts of `whole` drawn by `seed`, as arguments of `ForeignData`."""
    cut = split_source if whole.metadata.num_frames is None else split_trajectories
    words = ", ".join(f"{part} {size}" for part, size in sizes.items())
    return {
        "name": whole.metadata.name,
        "parts": cut(whole, dict(sizes), seed=seed),
        "roles": {WHOLE: paths},
        "division": f"{words}; seed {seed}",
    }


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _windows(part: Trajectories | Source, window: Mapping[str, Any] | None) -> Source:
    steady = part.metadata.num_frames is None
    if steady != (window is None):
        raise ValueError(
            f"{part.metadata.name}: holds {'a steady map' if steady else 'solutions over time'}; "
            f"set data.window={'null' if steady else '{history: 1, horizon: 1, stride: 1}'}."
        )
    return part if window is None else Windows(part, **window)


def _name(parts: Mapping[str, Trajectories]) -> str:
    return next(iter(parts.values())).metadata.name
