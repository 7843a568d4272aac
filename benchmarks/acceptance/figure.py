"""One measured figure beside its bar."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """`value` is to be at most `bar`, or within `within` of it, or at least it if `at_least`."""

    equation: str
    method: str
    what: str
    value: float
    bar: float
    within: float = 0.0
    at_least: bool = False

    @property
    def reached(self) -> bool:
        if self.within:
            return abs(self.value - self.bar) < self.within
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def row(self) -> dict[str, Any]:
        bar = f"{'≥' if self.at_least else '≤'} {self.bar:g}"
        return {
            "equation": self.equation,
            "method": self.method,
            "what": self.what,
            "measured": self.value,
            "bar": f"{self.bar:g} ± {self.within:g}" if self.within else bar,
            "": "reached" if self.reached else "**missed**",
        }


Figures = Iterator[Figure]


def order(equation: str, method: str, what: str, value: float, expected: float) -> Figure:
    """An observed order: within 0.3 of the one in the books."""
    return Figure(equation, method, f"order, {what}", value, expected, within=0.3)


def slope(errors: Sequence[float], ratio: float = 2.0) -> float:
    """Of the last two errors, the spacing or the step having fallen by `ratio`."""
    coarse, fine = list(itertools.pairwise(errors))[-1]
    return math.log(coarse / fine, ratio)
