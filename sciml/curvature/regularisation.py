"""Rules for lambda in (G + lambda) d = -g."""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

Regularisation = Literal["fixed", "levenberg_marquardt", "gradient_normalised"]


class Outcome(NamedTuple):
    """What a whole step d did to the loss f: it fell by `decrease`, the model -g.d - d.Gd / 2 said
    `predicted`, and |g| is `gradient` now, where `Rule.needs_gradient` (NaN otherwise).
    """

    decrease: float
    predicted: float
    gradient: float


class Rule(ABC):
    """`damping` says lambda; `judge` learns from the outcome, and is false where d is to be sought
    again with the new lambda.
    """

    needs_gradient = False

    @abstractmethod
    def damping(self, gradient: float) -> float:
        """lambda at a place where |g| is `gradient`."""

    @abstractmethod
    def judge(self, outcome: Outcome) -> bool:
        """Whether the step will do."""

    def state(self) -> dict[str, float]:
        return {}

    def load(self, state: dict[str, float]) -> None:  # noqa: B027
        """The inverse of `state`."""


class Fixed(Rule):
    """lambda stays what it is."""

    def __init__(self, damping: float):
        self.value = damping

    def damping(self, gradient: float) -> float:
        return self.value

    def judge(self, outcome: Outcome) -> bool:
        return True


class LevenbergMarquardt(Rule):
    """By the reduction ratio rho = decrease / predicted [Martens 2010, ICML, section 4.1]:

        lambda <- 3/2 lambda  if rho < 1/4,    lambda <- 2/3 lambda  if rho > 3/4

    `predicted` is that of G without lambda. A loss that is not finite counts as rho < 1/4.
    `least` bounds lambda from below, so that the system stays solvable in single precision.
    """

    def __init__(self, damping: float, least: float = 1e-8):
        self.value, self.least = damping, least

    def damping(self, gradient: float) -> float:
        return self.value

    def judge(self, outcome: Outcome) -> bool:
        sound = outcome.predicted > 0
        if sound and outcome.decrease > 0.75 * outcome.predicted:
            self.value = max(self.value * 2 / 3, self.least)
        elif not (sound and outcome.decrease >= 0.25 * outcome.predicted):
            self.value *= 3 / 2
        return True

    def state(self) -> dict[str, float]:
        return {"damping": self.value}

    def load(self, state: dict[str, float]) -> None:
        self.value = state["damping"]


class GradientNormalised(Rule):
    """lambda = |g| / gamma, gamma a radius in which G may be trusted, so that |d| <= gamma
    [Semenov, Jaggi & Doikov 2025, arXiv:2506.13710, algorithm 1]. With g' the gradient at
    theta + d, the step will do and gamma is doubled for the next if

        f(theta) - f(theta + d) >= |g'|^2 / (8 lambda)

    otherwise gamma is halved and d sought again. That is their test of progress, by which gamma
    finds the largest radius in which the error of the linearised gradient is |g| |h| / gamma at
    most. Differences: their systems are solved exactly, ours by truncated conjugate directions,
    whose residual is a part of g'; a step has a limited number of attempts, after which the next
    one begins with the gamma that was reached; their f is the same at all steps, with mini-batches
    it is another one each time. gamma begins with |g| / `damping`, at least `least`.
    """

    needs_gradient = True

    def __init__(self, damping: float, least: float = 1e-9):
        self.first, self.least, self.radius = damping, least, 0.0

    def damping(self, gradient: float) -> float:
        if self.radius == 0.0:
            self.radius = gradient / self.first
        self._lambda = gradient / max(self.radius, self.least)
        return self._lambda

    def judge(self, outcome: Outcome) -> bool:
        enough = 8 * self._lambda * outcome.decrease >= outcome.gradient**2
        self.radius *= 2.0 if enough else 0.5
        return enough

    def state(self) -> dict[str, float]:
        return {"radius": self.radius}

    def load(self, state: dict[str, float]) -> None:
        self.radius = state["radius"]


RULES = {
    "fixed": Fixed,
    "levenberg_marquardt": LevenbergMarquardt,
    "gradient_normalised": GradientNormalised,
}
