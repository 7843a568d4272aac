"""What the roll-outs of a test set came to: curves over time and the figures of them."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from datasets.store import commit

MARKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
CORRELATED = 0.8


@dataclass(frozen=True)
class RolloutErrors:
    """n roll-outs of up to k frames on one test set, arrays [n, k] with NaN where there is no
    frame; the frames of the input do not count.

    prefix          of the figures in `metrics.json`, such as `test` or `test@128x128`
    time            since the last frame of the input
    error           relative L2 of a frame, mean over the fields; infinite after a blow-up
    persistence     the same of the last frame of the input, kept as it is
    correlation     Pearson's with the truth over the grid points, mean over the fields
    """

    prefix: str
    time: np.ndarray
    error: np.ndarray
    persistence: np.ndarray
    correlation: np.ndarray

    def figures(self) -> dict[str, float]:
        """Plain floats for `metrics.json`, below `prefix/rollout/`.

        `relative_l2@k` is the mean over the roll-outs that have a frame k, infinite if one of them
        has blown up by then (`blown_up@k` counts those); `half_width@k` is half of the 95 %
        interval of that mean (Student's t over trajectories), `median@k` the median and
        `persistence@k` the mean error of no change.

        `correlation_time` is the mean over roll-outs of the time up to which the correlation
        stays at 0.8 or more; roll-outs that are correlated at their end count with their length,
        and `correlated_to_the_end` says how many those are.
        """
        found = {"trajectories": float(len(self.error)), "frames": float(self.marks[-1])}
        for mark in self.marks:
            errors, still = self.at(mark), self.at(mark, "persistence")
            found[f"relative_l2@{mark}"] = _mean(errors)
            found[f"half_width@{mark}"] = half_width(errors)
            found[f"median@{mark}"] = float(np.median(errors)) if len(errors) else math.nan
            found[f"persistence@{mark}"] = _mean(still)
            found[f"blown_up@{mark}"] = float(np.isinf(errors).sum())
        times, lasting = self.correlation_times()
        found["correlation_time"] = _mean(times)
        found["correlation_time_half_width"] = half_width(times)
        found["correlated_to_the_end"] = float(lasting.sum())
        defined = {name: value for name, value in found.items() if not math.isnan(value)}
        return {f"{self.prefix}/rollout/{name}": value for name, value in defined.items()}

    @property
    def marks(self) -> list[int]:
        """Frames whose figures are written down, the last among them."""
        longest = self.error.shape[1]
        return [*(mark for mark in MARKS if mark < longest), longest]

    def at(self, frame: int, name: str = "error") -> np.ndarray:
        """The numbers at a frame, counted from 1, of the roll-outs that have it."""
        column = getattr(self, name)[:, frame - 1]
        return column[~np.isnan(column)]

    def correlation_times(self) -> tuple[np.ndarray, np.ndarray]:
        """Of every roll-out [n], and whether it is correlated to its end. Where the truth is
        constant in space there is no correlation, and the frame is passed over.
        """
        times, lasting = [], []
        for time, correlation in zip(self.time, self.correlation, strict=True):
            there = ~np.isnan(time)
            lost = np.flatnonzero(correlation[there] < CORRELATED)
            end = lost[0] if len(lost) else int(there.sum())
            times.append(time[end - 1] if end else 0.0)
            lasting.append(len(lost) == 0)
        return np.array(times), np.array(lasting)

    @property
    def blown_up(self) -> int:
        return int(np.isinf(self.error).any(axis=1).sum())


def summary(found: RolloutErrors) -> str:
    """One line for the terminal."""
    last, n = found.marks[-1], len(found.error)
    times, _ = found.correlation_times()
    error, still = (100 * _mean(found.at(last, name)) for name in ("error", "persistence"))
    text = (
        f"roll-out of {last} frames: error {error:.2f} % at the last one (no change {still:.2f} %)"
    )
    text += f", correlation above {CORRELATED} up to time {_mean(times):.3g}"
    return text + (f"; {found.blown_up} of {n} blew up" if found.blown_up else "")


def half_width(values: np.ndarray) -> float:
    """t s / sqrt(n), half of the 95 % interval of a mean; NaN for one value or an infinite one."""
    n = len(values)
    if n < 2 or not np.isfinite(values).all():
        return math.nan
    return float(stdtrit(n - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(n)


def save_rollouts(path: Path, found: Mapping[str, RolloutErrors]) -> None:
    """Write roll-outs by resolution as .npz without pickled objects."""
    arrays = {
        f"{resolution}/{part.name}": np.asarray(getattr(errors, part.name))
        for resolution, errors in found.items()
        for part in fields(RolloutErrors)
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    commit(Path(path), buffer.getvalue())


def load_rollouts(path: Path) -> dict[str, RolloutErrors]:
    with np.load(path, allow_pickle=False) as arrays:
        found = {}
        for resolution in dict.fromkeys(name.split("/")[0] for name in arrays.files):
            parts = {f.name: arrays[f"{resolution}/{f.name}"] for f in fields(RolloutErrors)}
            found[resolution] = RolloutErrors(**parts | {"prefix": str(parts["prefix"])})
        return found


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan
