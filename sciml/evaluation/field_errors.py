"""The errors of every test sample, collected batch by batch."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from sciml.evaluation.metrics import max_error, nrmse, relative_h1, relative_l2, vrmse
from sciml.evaluation.spectrum import BANDS, band_nmse, error_spectrum, resolved_split
from solvers.grid import Grid

RELATIVE = ("relative_l2", "relative_h1", "vrmse", "nrmse", *(f"nmse_{band}" for band in BANDS))
METRICS = (*RELATIVE, "max_error")
SPLIT = ("relative_l2_resolved", "relative_l2_beyond", "truth_beyond")


class FieldErrors(Metric):
    """Errors per sample and channel, gathered over batches and processes, in float64.

    `names` has one name per channel (see `metrics.channel_names`), `grid` is the grid of the
    fields: make one object per resolution. On a grid finer than that of training, `coarse`, the
    error is also split into the modes that `coarse` holds and those beyond (SPLIT, see
    `spectrum.resolved_split`). Samples are known by their `index` in the test split,
    so that a sample which a distributed sampler repeats to fill the last batch counts once.

    Where the truth is zero everywhere a relative error is undefined. Such entries are left out of
    every relative figure and counted (`undefined`); `max_error` includes them. A sample whose
    prediction is not finite has an infinite error, which the means show, and is counted
    (`diverged`).
    """

    full_state_update = False
    higher_is_better = False

    def __init__(self, names: Sequence[str], grid: Grid, coarse: Grid | None = None):
        super().__init__()
        self.names, self.grid = tuple(names), grid
        finer = coarse is not None and any(
            own > other for own, other in zip(grid.shape, coarse.shape, strict=True)
        )
        self.coarse = coarse if finer else None
        self.relative = RELATIVE + SPLIT if finer else RELATIVE
        for state in ("index", "values", "spectra"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, prediction: Tensor, target: Tensor, index: Tensor) -> None:
        """Add b samples: fields [b, c, *space] and their numbers in the test split [b]."""
        if target.shape[1] != len(self.names):
            raise ValueError(f"expected channels {self.names}, got {target.shape[1]} channel(s).")
        prediction, target = prediction.detach().double(), target.detach().double()
        damaged = index[~target.flatten(1).isfinite().all(1).to(index.device)].tolist()
        if damaged:
            raise ValueError(
                f"test sample(s) {damaged} hold NaN or infinite values; check the data."
            )
        undefined = (target == 0).flatten(2).all(2)
        truth = target + undefined.reshape(*undefined.shape, *[1] * self.grid.ndim)
        values = [
            relative_l2(prediction, truth),
            relative_h1(prediction, truth, self.grid),
            vrmse(prediction, truth),
            nrmse(prediction, truth),
            *band_nmse(prediction, truth, self.grid).unbind(-1),
        ]
        if self.coarse is not None:
            values += resolved_split(prediction, truth, self.grid, self.coarse).unbind(-1)
        values = [error.masked_fill(undefined, torch.nan) for error in values]
        values.append(max_error(prediction, target))
        _, *spectra = error_spectrum(prediction, target, self.grid)
        self.index.append(index.to(self.device))
        self.values.append(torch.stack(values, dim=-1).to(self.device))
        self.spectra.append(torch.stack(spectra, dim=-1).to(self.device))

    def compute(self) -> dict[str, np.ndarray]:
        """Arrays in the order of the samples' numbers.

        `index` [n]; each of METRICS, and of SPLIT on a finer grid, [n, c], NaN where undefined;
        `wavenumber` [k]; `spectrum_truth` and `spectrum_error` [c, k], means over the samples with
        a finite prediction.
        """
        if len(self.index) == 0:
            raise ValueError("no sample was added; call update(prediction, target, index) first.")
        states = (self.index, self.values, self.spectra)
        index, values, spectra = (dim_zero_cat(state).cpu().numpy() for state in states)
        index, rows = np.unique(index, return_index=True)
        values, spectra = values[rows], spectra[rows]
        finite = np.isfinite(spectra).all(axis=(1, 2, 3))
        spectra = spectra[finite].sum(axis=0) / max(finite.sum(), 1)
        blank = torch.zeros(1, 1, *self.grid.shape)
        return {
            "index": index,
            **{name: values[..., m] for m, name in enumerate((*self.relative, "max_error"))},
            "wavenumber": error_spectrum(blank, blank, self.grid).wavenumber.numpy(),
            "spectrum_truth": spectra[..., 0],
            "spectrum_error": spectra[..., 1],
        }

    def summary(self, prefix: str = "test") -> dict[str, float]:
        """Plain floats for `metrics.json`.

        `test/relative_l2/pressure` is the mean over samples, `test/relative_l2` the mean of those
        over the fields, and so for every relative metric; `test/max_error/pressure` is the maximum
        over samples and has no mean over fields, whose units differ. A field that is zero in all
        samples has no relative figures. `test/samples`, `test/undefined` and `test/diverged` are
        counts.
        """
        collected = self.compute()
        defined = ~np.isnan(collected["relative_l2"])
        if not defined.any():
            raise ValueError(
                "every target is zero everywhere: no relative error exists; check the data."
            )
        figures = {}
        for metric in self.relative:
            fields = {
                name: float(collected[metric][defined[:, c], c].mean())
                for c, name in enumerate(self.names)
                if defined[:, c].any()
            }
            figures[f"{prefix}/{metric}"] = sum(fields.values()) / len(fields)
            figures |= {f"{prefix}/{metric}/{name}": value for name, value in fields.items()}
        for c, name in enumerate(self.names):
            figures[f"{prefix}/max_error/{name}"] = float(collected["max_error"][:, c].max())
        figures[f"{prefix}/samples"] = float(len(defined))
        figures[f"{prefix}/undefined"] = float((~defined).sum())
        diverged = ~np.isfinite(collected["max_error"]).all(axis=1)
        figures[f"{prefix}/diverged"] = float(diverged.sum())
        return figures
