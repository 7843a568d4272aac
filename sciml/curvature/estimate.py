"""Numbers that come from random samples, with their standard errors."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Estimate(NamedTuple):
    """A number and its standard error."""

    value: float
    error: float


def mean(values: Tensor) -> Estimate:
    """Of independent values [m], at least two."""
    return Estimate(float(values.mean()), float(values.std()) / len(values) ** 0.5)


def jackknife(function: Callable[..., Tensor], *columns: Tensor) -> Estimate:
    """function(*columns) of columns [m] of m independent observations, by leaving out one at a
    time [Efron & Stein 1981, Ann. Statist. 9, eq. 1.4]:

        error^2 = (m - 1) / m sum_j (f_(j) - mean f_(j))^2
    """
    m = len(columns[0])
    others = [torch.arange(m) != j for j in range(m)]
    left = torch.stack([function(*(column[rest] for column in columns)) for rest in others])
    error = ((m - 1) / m * (left - left.mean()).square().sum()).sqrt()
    return Estimate(float(function(*columns)), float(error))
