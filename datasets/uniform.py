"""Stored coordinates and times as the uniform axes and the ascending times that they are meant
to be.
"""

import numpy as np

from solvers.grid import Axis

SPACING = 1e-3  # largest relative deviation of a distance from the mean
ROUNDING = 2e-7  # of float32, in which most files keep their coordinates


def axis(
    name: str,
    points: np.ndarray,
    boundary: tuple[str, str],
    where: str,
    *,
    slack: float = SPACING,
) -> Axis:
    """The axis whose points these are, distances equal up to a share `slack`.

    The first point tells how they lie: half a distance from a multiple of it they are cell
    centres. Otherwise they are the left ends of a period, or the nodes of a bounded domain. Ends
    are rounded to six digits where the points stay what they are in float32. Raises ValueError
    that names `where` for points that do not increase by equal distances.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 1 or len(points) < 2:
        raise ValueError(f"{where}: expected 2 or more points along one axis, found {points.shape}")
    steps = np.diff(points)
    h = (points[-1] - points[0]) / (len(points) - 1)
    if not (np.isfinite(points).all() and (steps > 0).all()):
        raise ValueError(f"{where}: coordinates must be finite and increase, from point to point.")
    if np.abs(steps - h).max() > slack * h + 4 * ROUNDING * np.abs(points).max():
        raise ValueError(
            f"{where}: expected equal distances, found {steps.min():.4g} to {steps.max():.4g}. "
            "Interpolate the fields to a uniform grid."
        )
    length, periodic = len(points) * h, "periodic" in boundary
    offset = (points[0] / h) % 1.0
    if abs(offset - 0.5) < 0.01:
        lower, upper, kind = points[0] - h / 2, points[-1] + h / 2, "cells"
    elif periodic:
        lower, upper, kind = points[0], points[0] + length, "left"
    else:
        lower, upper, kind = points[0], points[-1], "nodes"
    ends = (_rounded(end, length) for end in (lower, upper))
    try:
        return Axis(name, len(points), *ends, boundary=boundary, points=kind)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def times(values: np.ndarray, where: str) -> np.ndarray:
    """Float64 times [..., t] of frames.

    Times that are equidistant but for the rounding of float32 become exactly so. Raises ValueError
    that names `where` unless they are finite and ascend.
    """
    values = np.asarray(values, dtype=np.float64)
    count = values.shape[-1] if values.ndim else 0
    if count < 2:
        return values
    if not (np.isfinite(values).all() and (np.diff(values) > 0).all()):
        raise ValueError(f"{where}: times must be finite and ascend, from frame to frame.")
    start, end = values[..., :1], values[..., -1:]
    dt = (end - start) / (count - 1)
    even = start + dt * np.arange(count)
    even[..., -1:] = end
    slack = 1e-4 * dt + 4 * ROUNDING * np.abs(values).max(axis=-1, keepdims=True)
    regular = (np.abs(values - even) <= slack).all(axis=-1, keepdims=True)
    return np.where(regular, even, values)


def median_step(values: np.ndarray) -> float | None:
    """Median distance of times [..., t], six digits where those say it; None of a single frame."""
    if values.shape[-1] < 2:
        return None
    step = float(np.median(np.diff(values)))
    return _rounded(step, step)


def _rounded(value: float, scale: float) -> float:
    short = float(f"{value:.6g}")
    if abs(value) <= ROUNDING * scale:
        return 0.0
    return short if abs(short - value) <= ROUNDING * scale else float(value)
