"""HDF5 files that a process keeps open, and the datasets in them that it has looked up."""

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from datasets.hdf5 import open_file

MAX_DATASETS = 64


class OpenFile:
    """An open file that remembers its datasets, at most `MAX_DATASETS`: each has a chunk cache of
    its own, and a file may hold thousands.
    """

    def __init__(self, file: h5py.File):
        self.file = file
        self._datasets: OrderedDict[str, h5py.Dataset] = OrderedDict()
        self._arrays: dict[str, np.ndarray] = {}

    def dataset(self, path: str) -> h5py.Dataset:
        found = self._datasets.get(path)
        if found is None:
            while len(self._datasets) >= MAX_DATASETS:
                self._datasets.popitem(last=False)
            found = self._datasets[path] = self.file[path]
        else:
            self._datasets.move_to_end(path)
        return found

    def array(self, path: str) -> np.ndarray:
        """A small dataset as a whole, read once."""
        if path not in self._arrays:
            self._arrays[path] = self.dataset(path)[()]
        return self._arrays[path]


class OpenFiles:
    """The files that this process has open, at most `limit`; the least recently used goes first.

    HDF5 handles must not cross a fork (parent and child would share file offset and cache) and
    cannot be pickled: a forked or spawned process begins with none.
    """

    def __init__(self, limit: int):
        if limit < 1:
            raise ValueError(f"max_open={limit} must be at least 1.")
        self.limit = limit
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._inspected: set[str] = set()
        self._open: OrderedDict[str, OpenFile] = OrderedDict()

    def get(self, key: str, locate: Callable[[], Path]) -> OpenFile:
        """The open file, located (and so verified) when it is opened, inspected the first time."""
        if self._pid != os.getpid():
            self._reset()
        if key not in self._open:
            while len(self._open) >= self.limit:
                self._open.popitem(last=False)[1].file.close()
            file = open_file(locate(), known=key in self._inspected)
            self._inspected.add(key)
            self._open[key] = OpenFile(file)
        self._open.move_to_end(key)
        return self._open[key]

    def __len__(self) -> int:
        return len(self._open)

    def __getstate__(self) -> dict[str, int]:
        return {"limit": self.limit}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.limit = state["limit"]
        self._reset()
