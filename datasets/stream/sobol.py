"""Parameters that fill their space evenly."""

import numpy as np

from datasets.stream.sampler import CubeSampler


class Sobol(CubeSampler):
    """Simulation i has point i of a scrambled Sobol' sequence [Owen 1998, J. Complexity 14], a
    function of the seed of the data and i alone.

    Any 2^m points from the first on fill the cube more evenly than independent ones. At most 2^30.
    """

    def point(self, simulation: int, random: np.random.Generator) -> np.ndarray:
        from scipy.stats import qmc  # takes as long to import as all else together

        sequence = qmc.Sobol(self.dimension, scramble=True, rng=np.random.default_rng(self._seed))
        if simulation:
            sequence.fast_forward(simulation)
        return sequence.random(1)[0]
