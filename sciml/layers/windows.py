"""A field cut into boxes of equal shape, in any number of dimensions."""

import math
from collections.abc import Sequence

from torch import Tensor


def split_windows(x: Tensor, window: Sequence[int]) -> Tensor:
    """[b, *space, c] -> [b, windows, points, c]: the windows, and the points in each, row by row.

    The number of points of every axis must be a multiple of the window's.
    """
    shape, n = x.shape[1:-1], len(window)
    parts = [part for size, w in zip(shape, window, strict=True) for part in (size // w, w)]
    x = x.reshape(x.shape[0], *parts, x.shape[-1])
    x = x.permute(0, *range(1, 2 * n, 2), *range(2, 2 * n + 1, 2), 2 * n + 1)
    return x.reshape(x.shape[0], -1, math.prod(window), x.shape[-1])


def join_windows(x: Tensor, window: Sequence[int], shape: Sequence[int]) -> Tensor:
    """[b, windows, points, c] -> [b, *shape, c], the inverse of `split_windows`."""
    n = len(window)
    counts = [size // w for size, w in zip(shape, window, strict=True)]
    x = x.reshape(x.shape[0], *counts, *window, x.shape[-1])
    order = [axis for i in range(n) for axis in (1 + i, 1 + n + i)]
    return x.permute(0, *order, 2 * n + 1).reshape(x.shape[0], *shape, x.shape[-1])
