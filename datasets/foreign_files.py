"""Fields in the HDF5 files of other projects, read piecewise where a survey of each file says."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from datasets.hdf5 import open_file
from datasets.open_files import OpenFile, OpenFiles
from datasets.schema import Batch, Metadata
from datasets.survey import Content, Variable
from datasets.uniform import SPACING


class ForeignFiles:
    """Files of one problem on one grid, each described by `survey(file)`; rows are counted through.

    Each file is opened and inspected (`datasets.hdf5`) once here; numbers are read when they are
    asked for. At most `max_open` files stay open per process; none travels to another process.
    Numbers are cast to `dtype` once. Raises ValueError for files that do not fit each other, and
    when it reads NaN, infinity or a damaged file.
    """

    def __init__(
        self,
        paths: Sequence[Path | str],
        survey: Callable[[h5py.File], Content],
        *,
        dtype: torch.dtype = torch.float32,
        max_open: int = 8,
    ):
        if not paths:
            raise ValueError("no files to read: give at least one path.")
        self.paths, self.dtype = [Path(path) for path in paths], dtype
        self._kind = torch.empty(0, dtype=dtype).numpy().dtype
        self._contents: list[Content] = []
        for path in self.paths:
            with open_file(path) as file, _told(path):
                self._contents.append(survey(file))
            _require_alike(self._contents, self.paths)
        self._starts = [0, *accumulate(content.rows for content in self._contents)]
        self._parameters = [torch.from_numpy(c.parameters).to(dtype) for c in self._contents]
        self._files = OpenFiles(max_open)
        first = self._contents[0].metadata
        names = {"files": ", ".join(path.name for path in self.paths)[:500]}
        counts = [c.metadata.num_frames for c in self._contents if c.metadata.num_frames]
        self.metadata: Metadata = replace(
            first,
            num_frames=max(counts, default=None),
            provenance={**first.provenance, **names},
        )

    def __len__(self) -> int:
        return self._starts[-1]

    def _place(self, index: int) -> tuple[int, int]:
        """File and row."""
        if not 0 <= index < self._starts[-1]:
            raise IndexError(f"{index} of {len(self)} in {self.paths[0].parent}.")
        number = bisect_right(self._starts, index) - 1
        return number, index - self._starts[number]

    def _open(self, number: int) -> OpenFile:
        path = self.paths[number]
        return self._files.get(str(path), lambda: path)

    def _read(
        self, number: int, row: int, variables: Sequence[Variable], frames: slice | None
    ) -> Tensor:
        """[t, c, *space], or [c, *space] with `frames` None."""
        content, path = self._contents[number], self.paths[number]
        space = content.metadata.grid.shape
        if not variables:
            return torch.empty(0, *space, dtype=self.dtype)
        count, channel = sum(v.components for v in variables), 0
        whole: np.ndarray | None = None
        with _told(path):
            file = self._open(number)
            for variable in variables:
                name = variable.path
                if content.groups:
                    name = name.format(content.groups[row])
                block = variable.block(file.dataset(name), row, frames, len(space))
                if whole is None:
                    lead = () if frames is None else (block.shape[0],)
                    whole = np.empty((*lead, count, *space), dtype=self._kind)
                last = channel + variable.components
                with np.errstate(over="ignore"):  # infinity is refused below
                    whole[..., channel:last, *(slice(None),) * len(space)] = block
                channel = last
        u = torch.from_numpy(whole)
        # of finite numbers the sum is rarely not finite, and much faster to look at
        if not torch.isfinite(u.sum()) and not bool(torch.isfinite(u).all()):
            self._refuse(u, number, row, variables, frames)
        return u

    def _refuse(
        self, u: Tensor, number: int, row: int, variables: Sequence[Variable], frames: slice | None
    ) -> None:
        """Raise ValueError naming the first number that is not finite."""
        bad = (~torch.isfinite(u)).nonzero()[0].tolist()
        names = [v.path for v in variables for _ in range(v.components)]
        name, place = names[bad[0 if frames is None else 1]], f"row {row}"
        if self._contents[number].groups:
            name = name.format(self._contents[number].groups[row])
        if frames is not None:
            place += f", frame {(frames.start or 0) + bad[0] * (frames.step or 1)}"
        raise ValueError(
            f"{self.paths[number]}: {name}, {place}: expected finite numbers in {self.dtype}, "
            "found NaN or infinity. Leave the trajectory out, or convert a mended file."
        )


class ForeignTrajectories(ForeignFiles):
    """Solutions over time in such files (`Trajectories`)."""

    def times(self, index: int) -> np.ndarray:
        number, row = self._place(index)
        times = self._contents[number].times
        return times[row] if times.ndim == 2 else times

    def read(self, index: int, frames: slice) -> Tensor:
        number, row = self._place(index)
        return self._read(number, row, self._contents[number].state, frames)

    def constants(self, index: int) -> Tensor:
        number, row = self._place(index)
        return self._read(number, row, self._contents[number].constants, None)

    def parameters(self, index: int) -> Tensor:
        number, row = self._place(index)
        return self._parameters[number][row]


class ForeignPairs(ForeignFiles):
    """Pairs of a steady map in such files (a `Source`)."""

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        meta = self.metadata
        input = torch.empty(len(indices), meta.in_channels, *meta.grid.shape, dtype=self.dtype)
        target = torch.empty(len(indices), meta.out_channels, *meta.grid.shape, dtype=self.dtype)
        parameters = torch.empty(len(indices), len(meta.parameters), dtype=self.dtype)
        for k, index in enumerate(indices):
            number, row = self._place(int(index))
            content = self._contents[number]
            input[k] = self._read(number, row, content.constants, None)
            target[k] = self._read(number, row, content.state, None)
            parameters[k] = self._parameters[number][row]
        return Batch(input, target, parameters, meta.grid.mesh(self.dtype))


def _require_alike(contents: Sequence[Content], paths: Sequence[Path]) -> None:
    """The last file has the fields, parameters and grid of the first."""
    first, last = contents[0].metadata, contents[-1].metadata
    what = ("fields that change", "fields that do not", "parameters", "points", "sides")
    kinds = [
        (m.target_fields, m.input_fields, m.parameters, m.grid.shape, m.grid.boundary)
        for m in (first, last)
    ]
    for name, expected, found in zip(what, *kinds, strict=True):
        if expected != found:
            raise ValueError(
                f"{paths[len(contents) - 1]}: expected the {name} of {paths[0].name}, {expected}, "
                f"found {found}. Read files that differ apart."
            )
    for a, b in zip(first.grid.axes, last.grid.axes, strict=True):
        far = (a.coordinates() - b.coordinates()).abs().max().item()
        if far > 10 * SPACING * a.spacing:
            raise ValueError(
                f"{paths[len(contents) - 1]}: axis {b.name} runs from {b.lower:g} to {b.upper:g}, "
                f"in {paths[0].name} from {a.lower:g} to {a.upper:g}. Read files that differ apart."
            )


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What h5py says about a damaged file, with the file's name."""
    try:
        yield
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(f"{path}: cannot be read, it may be damaged ({error}).") from error
