"""Which tensors hold finite numbers alone, and the error where training cannot go on."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor


class NonFiniteError(ValueError):
    """A loss, a gradient or a step is NaN or infinite."""


def finite(tensors: list[Tensor]) -> Iterator[bool]:
    """Of each real tensor whether all of it is, by its largest entry."""
    if tensors:
        yield from torch.stack(torch._foreach_norm(tensors, math.inf)).isfinite().tolist()
