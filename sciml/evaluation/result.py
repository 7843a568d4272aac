"""What an evaluation leaves for the report: errors of all samples, fields of three of them."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from torch import Tensor

from datasets.schema import Field, Metadata
from datasets.store import commit
from sciml.evaluation.metrics import channel_names
from solvers.grid import Grid

CHOICES = ("best", "median", "worst")


@dataclass(frozen=True)
class Result:
    """One model on one test set at one resolution, as NumPy arrays.

    prefix          of its figures in `metrics.json`, such as `test` or `test@128`
    errors          [n, c] relative L2 of every sample, NaN where the truth is zero
    index           [3] numbers of the best, the median and the worst sample in the test split
    input           [3, c_in, *space], and `target`, `prediction` [3, c, *space] of these samples
    origin, spacing [ndim] first point and distance of points on each axis
    wavenumber      [k], and `spectrum_truth`, `spectrum_error` [c, k]
    """

    prefix: str
    errors: np.ndarray
    index: np.ndarray
    input: np.ndarray
    target: np.ndarray
    prediction: np.ndarray
    origin: np.ndarray
    spacing: np.ndarray
    wavenumber: np.ndarray
    spectrum_truth: np.ndarray
    spectrum_error: np.ndarray

    @classmethod
    def from_errors(
        cls,
        collected: Mapping[str, np.ndarray],
        prefix: str,
        grid: Grid,
        *,
        input: Tensor,
        target: Tensor,
        prediction: Tensor,
    ) -> "Result":
        """From what `FieldErrors.compute` gave, and the fields of the `choose_samples` of it."""
        samples = (u.detach().float().cpu().numpy() for u in (input, target, prediction))
        return cls(
            prefix,
            collected["relative_l2"],
            choose_samples(collected),
            *samples,
            np.array([axis.coordinates()[0].item() for axis in grid.axes]),
            np.array(grid.spacing),
            *(collected[name] for name in ("wavenumber", "spectrum_truth", "spectrum_error")),
        )


@dataclass(frozen=True)
class Evaluation:
    """All results of a run by resolution (`64x64`), with the names and units of what they show."""

    fields: tuple[str, ...]
    units: tuple[str, ...]
    input_fields: tuple[str, ...]
    input_units: tuple[str, ...]
    axes: tuple[str, ...]
    results: Mapping[str, Result]

    @classmethod
    def from_metadata(cls, metadata: Metadata, results: Mapping[str, Result]) -> "Evaluation":
        target, source = metadata.target_fields, metadata.input_fields
        return cls(
            channel_names(target, metadata.grid),
            _channel_units(target),
            channel_names(source, metadata.grid),
            _channel_units(source),
            tuple(axis.name for axis in metadata.grid.axes),
            results,
        )

    def save(self, path: Path) -> None:
        """Write a compressed .npz without pickled objects, as a whole or not at all."""
        arrays = {name: np.array(getattr(self, name), dtype=np.str_) for name in _NAMES}
        for resolution, result in self.results.items():
            for part in fields(Result):
                arrays[f"{resolution}/{part.name}"] = np.asarray(getattr(result, part.name))
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        commit(Path(path), buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Evaluation":
        with np.load(path, allow_pickle=False) as arrays:
            missing = [name for name in _NAMES if name not in arrays]
            if missing:
                raise ValueError(f"{path} lacks {missing}; it was not written by Evaluation.save.")
            names = {name: tuple(str(s) for s in arrays[name]) for name in _NAMES}
            results = {}
            for resolution in dict.fromkeys(k.split("/")[0] for k in arrays.files if "/" in k):
                parts = {f.name: arrays[f"{resolution}/{f.name}"] for f in fields(Result)}
                results[resolution] = Result(**parts | {"prefix": str(parts["prefix"])})
        return cls(**names, results=results)


_NAMES = tuple(f.name for f in fields(Evaluation) if f.name != "results")


def choose_samples(collected: Mapping[str, np.ndarray]) -> np.ndarray:
    """Numbers of the samples with the smallest, the median and the largest relative L2 error, [3].

    Samples are ranked by the mean over their defined channels; the median is the lower of two.
    """
    errors = collected["relative_l2"]
    defined = ~np.isnan(errors)
    rows = np.flatnonzero(defined.any(axis=1))
    if len(rows) == 0:
        raise ValueError("no sample has a relative error: every target is zero everywhere.")
    total = np.where(defined, errors, 0.0).sum(axis=1)[rows]
    ranked = rows[np.argsort(total / defined.sum(axis=1)[rows], kind="stable")]
    return collected["index"][ranked[[0, (len(ranked) - 1) // 2, -1]]]


def _channel_units(fields: tuple[Field, ...]) -> tuple[str, ...]:
    return tuple(field.units for field in fields for _ in range(field.components))
