"""Random numbers that a problem depends on, one for each sample."""

import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

Numbers = TypeVar("Numbers", float, np.ndarray, Tensor)


class Distribution(Protocol):
    """One number per generator, [b] in float64. `quantile` maps a probability to the number below
    which it lies, so that points of the unit interval can stand for numbers, and `cdf` maps it
    back: each one number or all of an array or tensor, whose shape and type stay. Neither looks
    whether its argument lies in the interval that it maps.
    """

    def sample(self, generators: Sequence[torch.Generator]) -> Tensor: ...

    def quantile(self, probability: Numbers) -> Numbers: ...

    def cdf(self, value: Numbers) -> Numbers: ...


class Uniform:
    """Equally likely between `low` and `high`."""

    def __init__(self, low: float, high: float):
        if not low < high:
            raise ValueError(f"low={low} must be below high={high}.")
        self.low, self.high = low, high

    def sample(self, generators: Sequence[torch.Generator]) -> Tensor:
        return self.low + (self.high - self.low) * _chances(generators)

    def quantile(self, probability: Numbers) -> Numbers:
        """F^-1(p) = low + (high - low) p."""
        return self.low + (self.high - self.low) * probability

    def cdf(self, value: Numbers) -> Numbers:
        """F(v) = (v - low) / (high - low)."""
        return (value - self.low) / (self.high - self.low)


class LogUniform:
    """The logarithm is equally likely between those of `low` and `high`, both positive."""

    def __init__(self, low: float, high: float):
        if not 0 < low < high:
            raise ValueError(f"low={low} must lie between 0 and high={high}.")
        self.low, self.high = low, high

    def sample(self, generators: Sequence[torch.Generator]) -> Tensor:
        return self.low * torch.exp(math.log(self.high / self.low) * _chances(generators))

    def quantile(self, probability: Numbers) -> Numbers:
        """F^-1(p) = low (high / low)^p."""
        return self.low * (self.high / self.low) ** probability

    def cdf(self, value: Numbers) -> Numbers:
        """F(v) = log(v / low) / log(high / low)."""
        return _log(value / self.low) / math.log(self.high / self.low)


def _log(x: Numbers) -> Numbers:
    if isinstance(x, Tensor):
        return x.log()
    return np.log(x) if isinstance(x, np.ndarray) else math.log(x)


def _chances(generators: Sequence[torch.Generator]) -> Tensor:
    return torch.cat([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])
