"""The data sets that `data=...` chooses from: where the samples of each split come from."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.arrays import ArraySource
from datasets.build import instantiate
from datasets.generate import generate
from datasets.manifest import Header, Manifest
from datasets.neuralop_pt import NeuralopSource
from datasets.reader import ShardedSource, ShardedTrajectories
from datasets.recipe import Problem, Recipe
from datasets.schema import Metadata, Source
from datasets.shards import SIZES, plan
from datasets.split import split as split_source
from datasets.store import file_sha256
from datasets.windows import Windows


class Generated:
    """Samples that the recipe `pde` gives, computed on first use and kept below `root`.

    `counts` are the samples of train, valid and test on a grid of `resolution` points per axis. A
    test split on another grid holds the same physical problems: a sample follows from (seed,
    split, number). `window` holds the settings of `Windows` for solutions over time.
    """

    def __init__(
        self,
        pde: Mapping[str, Any],
        *,
        root: str,
        counts: Mapping[str, int],
        resolution: int | Sequence[int],
        window: Mapping[str, Any] | None = None,
        seed: int = 0,
        num_workers: int = 2,
    ):
        self._pde, self._root, self._seed = pde, root, seed
        self._counts, self._resolution = dict(counts), resolution
        self._num_workers, self._window = num_workers, window
        self._folders: dict[str, Path] = {}

    def source(self, split: str, resolution: int | Sequence[int] | None = None) -> Source:
        folder = self._folder(resolution)
        if self._window is None:
            return ShardedSource(folder, split)
        return Windows(ShardedTrajectories(folder, split), **self._window)

    def recipe(self) -> Recipe:
        """What the samples follow from (`Governed`)."""
        sizes = {key: value for key, value in self._pde.items() if key not in SIZES}
        return instantiate(sizes)

    def facts(self) -> dict[str, Any]:
        manifest = Manifest(self._folder(None))
        return {"path": str(manifest.folder), **_recipe_facts(manifest.header)}

    def problem(self) -> Problem:
        """What a stream of the training samples simulates."""
        header = self._planned()
        shape = tuple(header.shape)
        return Problem(header.recipe, shape, header.seed, header.counts["train"], self._window)

    def held_out(self) -> "Generated":
        """The same data set without training samples; the others are what they were."""
        return Generated(
            self._pde,
            root=self._root,
            counts={**self._counts, "train": 0},
            resolution=self._resolution,
            window=self._window,
            seed=self._seed,
            num_workers=self._num_workers,
        )

    def facts_of_problem(self) -> dict[str, Any]:
        """`facts` without the place on the disk: no sample is made."""
        return _recipe_facts(self._planned())

    def _planned(self) -> Header:
        return plan(self._pde, self._counts, resolution=self._resolution, seed=self._seed)[0]

    def _folder(self, resolution: int | Sequence[int] | None) -> Path:
        """Made or found, and verified, once per object."""
        counts = self._counts
        if resolution is None or _same(resolution, self._resolution):
            resolution = self._resolution
        else:
            counts = {"train": 0, "valid": 0, "test": counts["test"]}
        key = str(resolution)
        if key not in self._folders:
            self._folders[key] = generate(
                self._pde,
                self._root,
                counts,
                resolution=resolution,
                seed=self._seed,
                num_workers=self._num_workers,
            )
        return self._folders[key]


class Arrays:
    """Your own pair of `.npy` files, `input` and `target`, [n, *space] or [n, c, *space] each.

    `split` gives the shares of train, valid and test, drawn by `seed`. `boundary` and `points`
    say what holds at the sides and where the points lie, see `solvers.Axis`.
    """

    def __init__(
        self,
        input: str,
        target: str,
        *,
        ndim: int,
        boundary: str,
        points: str,
        split: Mapping[str, float | int],
        seed: int = 0,
    ):
        self._files = {"input": Path(input), "target": Path(target)}
        source = ArraySource(input, target, ndim=ndim, boundary=boundary, points=points)
        _read_once(source)
        self._parts = split_source(source, dict(split), seed=seed)
        self._split = f"{', '.join(f'{name} {size}' for name, size in split.items())}; seed {seed}"

    def source(self, split: str, resolution: int | Sequence[int] | None = None) -> Source:
        return own_grid(self._parts[split], resolution)

    def facts(self) -> dict[str, Any]:
        return _facts("arrays", self._files, self._parts, self._split, test=("input", "target"))


class NeuralopPairs:
    """neuraloperator's Darcy files: `train` and `test` are `.pt` files with {"x": ..., "y": ...}.

    The last `num_valid` samples of a random order of the training file choose the checkpoint; the
    test file is left for the end.
    """

    def __init__(
        self,
        train: str,
        test: str,
        *,
        num_valid: int,
        ndim: int = 2,
        boundary: str = "dirichlet",
        points: str = "left",
        seed: int = 0,
    ):
        self._files = {"train": Path(train), "test": Path(test)}
        if all(p.is_file() for p in self._files.values()) and _same_bytes(*self._files.values()):
            raise ValueError(f"{test}: the test file is the training file; give another.")
        options = {"ndim": ndim, "boundary": boundary, "points": points}
        source = NeuralopSource(train, **options)
        sizes = {"train": len(source) - num_valid, "valid": num_valid}
        self._split = f"valid {num_valid}; seed {seed}"
        self._parts: dict[str, Source] = {
            **split_source(source, sizes, seed=seed),
            "test": NeuralopSource(test, **options),
        }
        for part in self._parts.values():
            _read_once(part)

    def source(self, split: str, resolution: int | Sequence[int] | None = None) -> Source:
        return own_grid(self._parts[split], resolution)

    def facts(self) -> dict[str, Any]:
        return _facts("neuraloperator pairs", self._files, self._parts, self._split, test=("test",))


def _recipe_facts(header: Header) -> dict[str, Any]:
    metadata = Metadata.from_dict(header.metadata)
    return {
        "name": header.name,
        "hash": header.hash,
        "splits": dict(header.counts),
        "split": "by number",
        "train_files": [],
        "test_files": [],
        "description": metadata.describe(),
        "provenance": {**metadata.provenance, "repeat": header.command},
    }


def _same(a: int | Sequence[int], b: int | Sequence[int]) -> bool:
    """Whether two resolutions are one: 64 is [64, 64]."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    ndim = len(b if isinstance(a, int) else a)
    full = [[r] * ndim if isinstance(r, int) else list(r) for r in (a, b)]
    return full[0] == full[1]


def _read_once(source: Source, batch_size: int = 256) -> None:
    """Meet a NaN before the training, not after it: reading a sample refuses it."""
    for start in range(0, len(source), batch_size):
        source.__getitems__(list(range(start, min(start + batch_size, len(source)))))


def own_grid(source: Source, resolution: int | Sequence[int] | None) -> Source:
    """The source, if it has the grid that is asked for; ValueError otherwise."""
    shape = source.metadata.grid.shape
    wanted = (resolution,) * len(shape) if isinstance(resolution, int) else resolution
    if wanted is not None and tuple(wanted) != shape:
        raise ValueError(
            f"resolution={resolution}: the files hold the grid {shape} alone; only data that are "
            "generated come on other grids."
        )
    return source


def _same_bytes(one: Path, other: Path) -> bool:
    same_size = one.stat().st_size == other.stat().st_size
    return same_size and file_sha256(one) == file_sha256(other)


def _facts(
    name: str,
    files: Mapping[str, Path],
    parts: Mapping[str, Source],
    split: str,
    *,
    test: Sequence[str],
) -> dict[str, Any]:
    """Facts about files; those in the roles `test` hold test samples, all others none."""
    hashes = {role: file_sha256(path) for role, path in files.items()}
    apart = set(test) < set(files)
    return {
        "name": name,
        "path": ", ".join(str(path) for path in files.values()),
        "hash": hashlib.sha256("".join(hashes.values()).encode()).hexdigest()[:8],
        "splits": {part: len(source) for part, source in parts.items()},
        "split": split,
        "train_files": [hashes[role] for role in files if not apart or role not in test],
        "test_files": [hashes[role] for role in test],
        "description": next(iter(parts.values())).metadata.describe(),
        "provenance": {
            **{f"{role} file": path.name for role, path in files.items()},
            **{f"{role} sha256": value for role, value in hashes.items()},
        },
    }
