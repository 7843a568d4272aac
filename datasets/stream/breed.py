"""Parameters near those that the model finds hard."""

import numpy as np

from datasets.stream.sampler import LearningSampler, require_share

SHRINK, TRIES = 0.3, 4


class Breed(LearningSampler):
    """Children of hard simulations [Dymchenko & Raffin 2024, arXiv:2410.05860]:

        parent i of the last `window` simulations with probability ~ their relative errors,
        child = parent + N(0, sigma^2) in the unit cube; outside of it sigma <- 0.3 sigma, and after
        four attempts the parent itself

    The share of children rises in a straight line from `first` to `last` over the first `rise`
    simulations; the others are uniform. Ours are the error relative to that of the batch in
    place of the paper's increments of the loss, that parents need not be of the same generation, as
    simulations here start one by one, and the 30 % that stay uniform.
    """

    def __init__(
        self,
        *,
        sigma: float = 0.1,
        first: float = 0.0,
        last: float = 0.7,
        rise: int = 100,
        window: int = 200,
    ):
        for name, share in (("first", first), ("last", last)):
            require_share(name, share)
        if not sigma > 0 or rise < 1 or window < 1:
            raise ValueError(
                f"online.sampler: sigma={sigma} must be positive, rise={rise} and window={window} "
                "at least 1."
            )
        self.sigma, self.shares, self.rise, self.window = sigma, (first, last), rise, window

    def share(self, simulation: int) -> float:
        first, last = self.shares
        return first + (last - first) * min(simulation / self.rise, 1.0)

    def propose(self, simulation: int, random: np.random.Generator) -> np.ndarray | None:
        points, errors = self.latest(self.window)
        if not len(points):
            return None
        parent = points[random.choice(len(points), p=errors / errors.sum())]
        sigma = self.sigma
        for _ in range(TRIES):
            child = parent + sigma * random.standard_normal(self.dimension)
            if ((child >= 0) & (child < 1)).all():
                return child
            sigma *= SHRINK
        return parent
