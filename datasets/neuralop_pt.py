"""Pairs of tensors as neuraloperator stores them: a `.pt` file with {"x": ..., "y": ...}."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError

import torch

from datasets.arrays import ArraySource
from datasets.schema import Batch


class NeuralopSource:
    """The samples of one `.pt` file (a `Source`): `x` and `y`, each [n, *space] or [n, c, *space].

    The file says nothing about its grid, so the caller does: the Darcy files that neuraloperator
    packages have their points at i / n, `points="left"`, and zero on the boundary. Bools and
    integers become `dtype`. The file is opened with `weights_only=True`: it can hold tensors, not
    code. It is read as a whole. Raises ValueError for a file that is missing or holds something
    else.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        ndim: int = 2,
        name: str = "neuralop",
        boundary: str = "dirichlet",
        points: str = "left",
        input_names: Sequence[str] = ("x",),
        target_names: Sequence[str] = ("y",),
        dtype: torch.dtype = torch.float32,
    ):
        x, y = _load(Path(path))
        try:
            self._source = ArraySource(
                x,
                y,
                ndim=ndim,
                name=name,
                boundary=boundary,
                points=points,
                input_names=input_names,
                target_names=target_names,
                dtype=dtype,
            )
        except ValueError as error:
            raise ValueError(f"{path} (x is the input, y the target): {error}") from error
        self.metadata = replace(self._source.metadata, provenance={"file": Path(path).name})

    def __len__(self) -> int:
        return len(self._source)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        return self._source.__getitems__(indices)


def _load(path: Path) -> list[torch.Tensor]:
    """The tensors x and y of a file that holds them, and nothing that would run."""
    if not path.is_file():
        raise ValueError(
            f"{path}: there is no such file. neuraloperator's wheels do not contain its Darcy "
            "files; take them from its repository, neuralop/data/datasets/data."
        )
    try:
        pairs = torch.load(path, weights_only=True, map_location="cpu")
    except (UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else "the file ends early"
        raise ValueError(f"{path}: not a .pt file that holds tensors alone ({reason})") from error
    keys = sorted(map(str, pairs)) if isinstance(pairs, dict) else type(pairs).__name__
    if keys != ["x", "y"] or not all(isinstance(pairs[key], torch.Tensor) for key in keys):
        raise ValueError(f"{path}: expected a dict of two tensors x and y, found {keys}.")
    return [pairs["x"], pairs["y"]]
