"""Which parameters the next simulation has."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from solvers.distributions import Distribution


class Sampler(Protocol):
    """Chooses the parameters of simulations, and may learn from the errors of the model."""

    def start(self, distributions: Mapping[str, Distribution], *, seed: int, count: int) -> None:
        """`distributions` of the parameters by name, and the number of simulations to come. Raises
        ValueError for what cannot be chosen from.
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

    def start(self, distributions: Mapping[str, Distribution], *, seed: int, count: int) -> None:
        pass

    def choose(self, simulation: int) -> None:
        return None

    def observe(self, simulations: np.ndarray, errors: np.ndarray) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass
