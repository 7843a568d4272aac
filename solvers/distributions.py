"""Random numbers that a problem depends on, one for each sample."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Distribution(Protocol):
    """One number per generator, [b] in float64. `quantile` maps a probability to the number below
    which it lies, so that points of the unit interval can stand for numbers.
    """

    def sample(self, generators: Sequence[torch.Generator]) -> Tensor: ...

    def quantile(self, probability: float) -> float: ...


class Uniform:
    """Equally likely between `low` and `high`."""

    def __init__(self, low: float, high: float):
        if not low < high:
            raise ValueError(f"low={low} must be below high={high}.")
        self.low, self.high = low, high

    def sample(self, generators: Sequence[torch.Generator]) -> Tensor:
        return self.low + (self.high - self.low) * _chances(generators)

    def quantile(self, probability: float) -> float:
        """F^-1(p) = low + (high - low) p."""
        return self.low + (self.high - self.low) * probability


class LogUniform:
    """The logarithm is equally likely between those of `low` and `high`, both positive."""

    def __init__(self, low: float, high: float):
        if not 0 < low < high:
            raise ValueError(f"low={low} must lie between 0 and high={high}.")
        self.low, self.high = low, high

    def sample(self, generators: Sequence[torch.Generator]) -> Tensor:
        return self.low * torch.exp(math.log(self.high / self.low) * _chances(generators))

    def quantile(self, probability: float) -> float:
        """F^-1(p) = low (high / low)^p."""
        return self.low * (self.high / self.low) ** probability


def _chances(generators: Sequence[torch.Generator]) -> Tensor:
    return torch.cat([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])
