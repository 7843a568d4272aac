"""Values on the sides of a box, given as numbers or tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from solvers.grid import Grid

Value = float | Tensor
Boundary = Value | Sequence[tuple[Value, Value]]


def wall_values(boundary: Boundary, grid: Grid, b: int, like: Tensor) -> list[Tensor]:
    """[b, *face] for the lower and the upper side of every axis, face being the shape less that
    axis.

    `boundary` is a number, or a pair (lower, upper) per axis, each a number or a tensor that
    broadcasts to [b, *face].
    """
    if isinstance(boundary, int | float | Tensor):
        boundary = [(boundary, boundary)] * grid.ndim
    if len(boundary) != grid.ndim or any(len(pair) != 2 for pair in boundary):
        raise ValueError(
            f"boundary must be a number or {grid.ndim} pairs (lower wall, upper wall), one per "
            f"axis; got {len(boundary)} entries."
        )
    values = []
    for axis, pair in enumerate(boundary):
        face = (b, *grid.shape[:axis], *grid.shape[axis + 1 :])
        name = f"boundary of axis {grid.axes[axis].name}"
        values += [expand(name, value, face, like) for value in pair]
    return values


def expand(name: str, value: Value, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A number or tensor as one of this shape, in the precision and on the device of `like`."""
    value = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    fits = zip(reversed(value.shape), reversed(shape), strict=False)
    if value.dim() > len(shape) or any(n not in (1, m) for n, m in fits):
        raise ValueError(
            f"{name} must be a number or broadcast to {shape}, got shape {tuple(value.shape)}."
        )
    return value.expand(shape)


def require(name: str, field: Tensor, holds: Tensor, what: str) -> None:
    """Raise ValueError naming the first value of a field [b, ...] for which `holds` is False."""
    if not holds.all():
        sample, *position = (~holds).nonzero()[0].tolist()
        value = field[(sample, *position)].item()
        raise ValueError(
            f"{name} must be {what}; sample {sample} holds {value:g} at index {tuple(position)}."
        )
