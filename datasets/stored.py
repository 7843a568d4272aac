"""A data set on disk, generated or converted, by its folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.build import instantiate
from datasets.manifest import CONVERTED, STREAMED, Manifest
from datasets.reader import ShardedSource, ShardedTrajectories
from datasets.recipe import Recipe
from datasets.schema import SPLITS, Source
from datasets.windows import Windows


class Stored:
    """The data set in the folder `path`, such as `datasets.convert` makes (a `DataSet`).

    `window` are the settings of `Windows` for solutions over time, null for a steady map. Nothing
    is made here: a shard that is missing or altered is refused with the command that mends it.
    """

    def __init__(self, path: str, *, window: Mapping[str, Any] | None):
        self._manifest, self._window = Manifest(path), window
        steady = self._manifest.metadata.num_frames is None
        if steady != (window is None):
            raise ValueError(
                f"{path}: holds {'a steady map' if steady else 'solutions over time'}; set "
                f"data.window={'null' if steady else '{history: 1, horizon: 1, stride: 1}'}."
            )
        counts = self._manifest.header.counts
        empty = [split for split in SPLITS if not counts[split]]
        if empty:
            raise ValueError(
                f"{path}: no {' and no '.join(empty)} samples; training needs train, valid and "
                "test."
            )
        self._sources: dict[str, Source] = {}

    def source(self, split: str, resolution: int | Sequence[int] | None = None) -> Source:
        shape = self._manifest.metadata.grid.shape
        wanted = (resolution,) * len(shape) if isinstance(resolution, int) else resolution
        if wanted is not None and tuple(wanted) != shape:
            raise ValueError(f"resolution={resolution}: the folder holds the grid {shape} alone.")
        if split not in self._sources:
            folder = self._manifest.folder
            if self._window is None:
                self._sources[split] = ShardedSource(folder, split)
            else:
                self._sources[split] = Windows(ShardedTrajectories(folder, split), **self._window)
        return self._sources[split]

    def recipe(self) -> Recipe | None:
        """What the samples follow from (`Governed`), if they were generated here."""
        recipe = self._manifest.header.recipe
        return None if CONVERTED in recipe else instantiate(recipe.get(STREAMED, recipe))

    def facts(self) -> dict[str, Any]:
        header, meta = self._manifest.header, self._manifest.metadata
        return {
            "name": header.name,
            "path": str(Path(self._manifest.folder)),
            "hash": header.hash,
            "splits": {split: len(self.source(split)) for split in SPLITS},
            "split": "by folder",
            "train_files": [],
            "test_files": [],
            "description": self.source("train").metadata.describe(),
            "provenance": {**meta.provenance, "repeat": header.command},
        }
