"""Parameters where a Gaussian process expects, or does not know, large errors."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch

from datasets.stream.sampler import LearningSampler, require_share
from solvers.distributions import Distribution


class GaussianProcess(LearningSampler):
    """The model's log relative error as a function of the parameters, by a Gaussian process with a
    Matern-5/2 kernel and a length for each parameter [Rasmussen & Williams 2006, eq. 2.25-2.26]:

        f | data ~ N(m(x), s(x)^2),        next point = argmax over `candidates` uniform ones of
        s(x)               acquisition="variance": where the error is known least
        m(x) + beta s(x)   acquisition="upper": where it may be largest

    Data are the last `memory` simulations that were trained on. Lengths, variance and noise are
    fitted by `steps` steps of Adam on the marginal likelihood, every `every` choices. `chosen` is
    the share of such points, the others are uniform. The posterior variance itself does not depend
    on errors, only through the lengths that they teach: `variance` fills the space, and what it
    learns is which parameters matter.

    Simulations that are on their way count as data with the error that is expected of them
    ("kriging believer" [Ginsbourger, Le Riche & Carraro 2010]): without them all that are chosen
    before the next error is known would have the same parameters.
    """

    def __init__(
        self,
        *,
        acquisition: Literal["variance", "upper"] = "variance",
        beta: float = 1.0,
        chosen: float = 0.5,
        candidates: int = 256,
        memory: int = 200,
        every: int = 10,
        steps: int = 40,
    ):
        require_share("chosen", chosen)
        if acquisition not in ("variance", "upper"):
            raise ValueError(f"online.sampler.acquisition={acquisition!r}: variance or upper.")
        if min(candidates, memory, every, steps) < 1 or beta < 0:
            raise ValueError(
                f"online.sampler: candidates={candidates}, memory={memory}, every={every} and "
                f"steps={steps} must be at least 1, beta={beta} not negative."
            )
        self.acquisition, self.beta, self.chosen = acquisition, beta, chosen
        self.candidates, self.memory, self.every, self.steps = candidates, memory, every, steps

    def start(self, distributions: Mapping[str, Distribution], *, seed: int) -> None:
        super().start(distributions, seed=seed)
        from datasets.stream.matern import Matern  # gpytorch takes seconds to import

        self._process = Matern(self.dimension)
        self._proposed = 0

    def share(self, simulation: int) -> float:
        return self.chosen

    def propose(self, simulation: int, random: np.random.Generator) -> np.ndarray | None:
        points, errors = self.latest(self.memory)
        if len(points) < 2:
            return None
        x, y = torch.from_numpy(points), torch.from_numpy(np.log(errors + 1e-12))
        y = (y - y.mean()) / y.std().clamp_min(1e-6)
        self._process.condition(x, y)
        if self._proposed % self.every == 0:
            self._process.learn(self.steps)
        self._proposed += 1
        coming = torch.from_numpy(self.pending(self.memory))
        if len(coming):
            expected, _ = self._process.posterior(coming)
            self._process.condition(torch.cat((x, coming)), torch.cat((y, expected)))
        candidates = random.random((self.candidates, self.dimension))
        mean, deviation = self._process.posterior(torch.from_numpy(candidates))
        score = deviation if self.acquisition == "variance" else mean + self.beta * deviation
        return candidates[int(score.argmax())]

    def state_dict(self) -> dict[str, Any]:
        state = {key: value.clone() for key, value in self._process.state_dict().items()}
        return {**super().state_dict(), "process": state, "proposed": self._proposed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._process.load_state_dict(state["process"])
        self._proposed = state["proposed"]
