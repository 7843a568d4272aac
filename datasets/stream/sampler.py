"""Which parameters the next simulation has."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import islice
from typing import Any, Protocol

import numpy as np

from solvers.distributions import Distribution

UNIFORM, CHOSEN = "uniform", "chosen"
LEAST_UNIFORM = 0.3  # share of simulations whose parameters nothing has chosen
TEN = 10  # simulations, of which three are uniform in any case


class Sampler(Protocol):
    """Chooses the parameters of simulations; one that `learns` is told the errors of the model."""

    learns: bool

    def start(self, distributions: Mapping[str, Distribution], *, seed: int) -> None:
        """`distributions` of the parameters by name. Raises ValueError for what cannot be chosen
        from.
        """
        ...

    def choose(self, simulation: int) -> dict[str, float] | None:
        """Its parameters; None leaves them as the recipe draws them."""
        ...

    def observe(self, simulations: np.ndarray, errors: np.ndarray) -> None:
        """The training errors [b] of samples of these simulations [b]."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class AsDrawn:
    """The parameters that the recipe draws: independent, from their distributions."""

    learns = False

    def start(self, distributions: Mapping[str, Distribution], *, seed: int) -> None:
        pass

    def choose(self, simulation: int) -> None:
        return None

    def observe(self, simulations: np.ndarray, errors: np.ndarray) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class CubeSampler(ABC):
    """Chooses points of the unit cube, [d], which the quantiles of the distributions turn into
    parameters: uniform points are parameters as their distributions have them.
    """

    learns = False

    def start(self, distributions: Mapping[str, Distribution], *, seed: int) -> None:
        if not distributions:
            raise ValueError(
                "online.sampler: the simulations have no parameters, only random fields, so there "
                "is nothing to choose; set online/sampler=as_drawn."
            )
        self._distributions, self._seed = dict(distributions), seed
        self.dimension = len(distributions)
        self.points: dict[int, np.ndarray] = {}  # by simulation

    def choose(self, simulation: int) -> dict[str, float]:
        point = self.point(simulation, np.random.default_rng([self._seed, 0x5A, simulation]))
        self.points[simulation] = point
        return self._parameters(point)

    def kind(self, simulation: int) -> str:
        """Of a choice that was made: `uniform` or `chosen`."""
        return CHOSEN

    def history(self) -> list[tuple[int, dict[str, float], str]]:
        """(simulation, parameters, kind) of all choices, as they were made."""
        return [(i, self._parameters(point), self.kind(i)) for i, point in self.points.items()]

    def _parameters(self, point: np.ndarray) -> dict[str, float]:
        items = zip(self._distributions.items(), point.tolist(), strict=True)
        return {name: each.quantile(p) for (name, each), p in items}

    @abstractmethod
    def point(self, simulation: int, random: np.random.Generator) -> np.ndarray:
        """That of a simulation, whose own random numbers are `random`."""

    def observe(self, simulations: np.ndarray, errors: np.ndarray) -> None:  # noqa: B027
        """Nothing is learned, unless a subclass does."""

    def state_dict(self) -> dict[str, Any]:
        return {"points": {i: point.tolist() for i, point in self.points.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.points = {int(i): np.array(point) for i, point in state["points"].items()}


class LearningSampler(CubeSampler):
    """One that follows the errors of the model, of which it keeps for every simulation the mean of

        error of a sample / mean error of its batch,

    so that the decline of all errors in the course of the training does not count. Of simulations
    0 to n - 1, for every n, at least 30 % are uniform: what is learned shall stay true where the
    errors are small. Which ones may be chosen at all depends on the seed and their numbers alone,
    not on errors.
    """

    learns = True

    def start(self, distributions: Mapping[str, Distribution], *, seed: int) -> None:
        super().start(distributions, seed=seed)
        self._errors: dict[int, list[float]] = {}  # sum and number
        self.kinds: dict[int, str] = {}  # of the choices

    def kind(self, simulation: int) -> str:
        return self.kinds[simulation]

    def point(self, simulation: int, random: np.random.Generator) -> np.ndarray:
        chance, uniform = random.random(), random.random(self.dimension)
        chosen = None
        if not self._spared(simulation) and chance * (1 - LEAST_UNIFORM) < self.share(simulation):
            chosen = self.propose(simulation, random)
        self.kinds[simulation] = UNIFORM if chosen is None else CHOSEN
        return uniform if chosen is None else chosen

    def _spared(self, simulation: int) -> bool:
        """Of every ten the first, one of the next three and one of the three after these: so no
        beginning of the study has less than its share.
        """
        random = np.random.default_rng([self._seed, 0x5B, simulation // TEN])
        return simulation % TEN in (0, *(random.integers(3, size=2) + (1, 4)))

    @abstractmethod
    def share(self, simulation: int) -> float:
        """Of the simulations about this one whose parameters are chosen, at most 70 %."""

    @abstractmethod
    def propose(self, simulation: int, random: np.random.Generator) -> np.ndarray | None:
        """A point; None if nothing is known yet."""

    def observe(self, simulations: np.ndarray, errors: np.ndarray) -> None:
        """Those that are not finite, of samples without a relative error, are left out."""
        finite = np.isfinite(errors)
        simulations, errors = simulations[finite], errors[finite]
        mean = errors.mean() if len(errors) else 0.0
        if not 0 < mean < np.inf:
            return
        for simulation, error in zip(simulations.tolist(), (errors / mean).tolist(), strict=True):
            entry = self._errors.setdefault(simulation, [0.0, 0])
            entry[0] += error
            entry[1] += 1

    def latest(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Points [n, d] and errors [n] of the last `count` choices of which some are known."""
        known = list(islice((i for i in reversed(self.points) if i in self._errors), count))[::-1]
        errors = [self._errors[i][0] / self._errors[i][1] for i in known]
        return self._stacked(known), np.array(errors)

    def pending(self, count: int) -> np.ndarray:
        """Points [n, d] of those of the last `count` choices whose errors are not known."""
        return self._stacked(
            [i for i in islice(reversed(self.points), count) if i not in self._errors][::-1]
        )

    def _stacked(self, simulations: list[int]) -> np.ndarray:
        return np.array([self.points[i] for i in simulations]).reshape(-1, self.dimension)

    def state_dict(self) -> dict[str, Any]:
        errors = {i: list(entry) for i, entry in self._errors.items()}
        return {**super().state_dict(), "errors": errors, "kinds": dict(self.kinds)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._errors = {int(i): list(entry) for i, entry in state["errors"].items()}
        self.kinds = {int(i): kind for i, kind in state["kinds"].items()}


def require_share(name: str, share: float) -> None:
    """ValueError unless 30 % of the simulations stay uniform."""
    if not 0 <= share <= 1 - LEAST_UNIFORM:
        raise ValueError(
            f"online.sampler.{name}={share} must lie between 0 and {1 - LEAST_UNIFORM:g}: at least "
            f"{100 * LEAST_UNIFORM:g} % of the simulations are uniform."
        )
