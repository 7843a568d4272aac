"""neuraloperator's HDF5 pairs: datasets `x` and `y` at the root, first axis the samples."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from datasets.foreign_files import ForeignPairs
from datasets.schema import Field, Metadata
from datasets.survey import SPACE, Content, Survey, Variable
from solvers.grid import Grid


class NeuralopHDF5Source(ForeignPairs):
    """Pairs of one or more HDF5 files with `x` and `y`, each [n, *space] or [n, c, *space] (a
    `Source`), read sample by sample.

    `NeuralopSource` for files too large for memory; the files do not say where the points lie and
    what holds at the sides either.
    """

    def __init__(
        self,
        paths: Sequence[Path | str],
        *,
        ndim: int = 2,
        boundary: str = "dirichlet",
        points: str = "left",
        **options: Any,
    ):
        if ndim not in (1, 2, 3):
            raise ValueError(f"ndim={ndim!r}: the number of space dimensions is 1, 2 or 3.")
        look = partial(survey, ndim=ndim, boundary=boundary, points=points)
        super().__init__(paths, look, **options)


def survey(file: h5py.File, *, ndim: int, boundary: str, points: str) -> Content:
    """What a file holds; ValueError naming the dataset that is not as expected."""
    look, space = Survey(file, file.filename), SPACE[:ndim]
    variables = []
    for name, letter in (("x", "i"), ("y", "j")):
        channels = len(getattr(file.get(name), "shape", ())) == ndim + 2
        axes = f"n{letter * channels}{space}"
        shape = look.dataset(name, axes).shape
        count = shape[1] if channels else 1
        fields = [Field(name)] if count == 1 else [Field(f"{name}_{i}") for i in range(count)]
        variables.append(Variable(tuple(fields), name, axes))
    grid = Grid.box([look.size(a) for a in space], boundary=boundary, points=points)
    metadata = Metadata(
        name="neuralop",
        input_fields=variables[0].fields,
        target_fields=variables[1].fields,
        grid=grid,
        provenance={"layout": "neuraloperator"},
    )
    rows = look.size("n")
    return Content(
        metadata, rows, (variables[1],), (variables[0],), np.empty((rows, 0)), times=None
    )
