"""Limited slopes from the jumps to both neighbours [Sweby 1984, SIAM J. Numer. Anal. 21]."""

from collections.abc import Callable

import torch
from torch import Tensor


def minmod(a: Tensor, b: Tensor) -> Tensor:
    """The smaller of two jumps of one sign, 0 for opposite ones."""
    return torch.where(a * b > 0, torch.where(a.abs() < b.abs(), a, b), 0.0)


def van_leer(a: Tensor, b: Tensor) -> Tensor:
    """Their harmonic mean."""
    product = a * b
    positive = product > 0
    return torch.where(positive, 2 * product / torch.where(positive, a + b, 1.0), 0.0)


def monotonized_central(a: Tensor, b: Tensor) -> Tensor:
    """The mean, at most twice either jump."""
    bound = 2 * torch.minimum(a.abs(), b.abs())
    mean = 0.5 * (a + b)
    return torch.where(a * b > 0, torch.sign(a) * torch.minimum(mean.abs(), bound), 0.0)


def none(a: Tensor, b: Tensor) -> Tensor:
    """Zero slope: the first-order method."""
    return torch.zeros_like(a)


LIMITERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "minmod": minmod,
    "van_leer": van_leer,
    "mc": monotonized_central,
    "none": none,
}
