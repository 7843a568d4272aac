"""Parts of a source: which samples train, which select, which test."""

from collections.abc import Mapping, Sequence

import numpy as np

from datasets.schema import Batch, Source
from datasets.trajectories import SomeTrajectories, Trajectories, require_apart


class Subset:
    """Some samples of a source, in the given order (a `Source`)."""

    def __init__(self, source: Source, indices: Sequence[int]):
        self.source, self.indices = source, [int(index) for index in indices]
        self.metadata = source.metadata
        outside = [index for index in self.indices if not 0 <= index < len(source)]
        if outside:
            raise ValueError(
                f"samples {outside[:5]} are not among the {len(source)} of the source."
            )

    def __len__(self) -> int:
        return len(self.indices)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        return self.source.__getitems__([self.indices[index] for index in indices])


def split(source: Source, sizes: Mapping[str, int | float], *, seed: int = 0) -> dict[str, Subset]:
    """Disjoint parts of a source: see `draw`."""
    parts = draw(len(source), sizes, seed=seed)
    return {name: Subset(source, indices) for name, indices in parts.items()}


def split_trajectories(
    trajectories: Trajectories, sizes: Mapping[str, int | float], *, seed: int = 0
) -> dict[str, SomeTrajectories]:
    """Disjoint parts of whole trajectories: see `draw`. Raises ValueError when two parts hold
    trajectories that begin alike (`require_apart`).
    """
    parts = draw(len(trajectories), sizes, seed=seed)
    found = {name: SomeTrajectories(trajectories, indices) for name, indices in parts.items()}
    require_apart(found)
    return found


def draw(total: int, sizes: Mapping[str, int | float], *, seed: int = 0) -> dict[str, list[int]]:
    """Disjoint parts of `total` samples, drawn without replacement, such as {"train": 0.8,
    "test": 0.2}.

    All sizes are numbers of samples, or all are fractions with a sum of at most 1: rounded down,
    but at least one sample; when the sum is 1, the first part takes what is left. The parts
    depend on the number of samples, the sizes and the seed alone. Raises ValueError when they do
    not fit.
    """
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed={seed} of the split must be a whole number, at least 0.")
    if all(isinstance(size, int) for size in sizes.values()):
        counts = dict(sizes)
    elif all(isinstance(size, float) for size in sizes.values()):
        if sum(sizes.values()) > 1 + 1e-9:
            raise ValueError(
                f"fractions {dict(sizes)} sum to {sum(sizes.values()):.3f}, more than 1."
            )
        counts = {name: max(1, int(size * total + 1e-9)) for name, size in sizes.items()}
        if abs(sum(sizes.values()) - 1) <= 1e-9:
            counts[next(iter(counts))] += total - sum(counts.values())
    else:
        raise ValueError(
            f"sizes {dict(sizes)}: give all as counts (int) or all as fractions (float)."
        )
    if min(counts.values(), default=0) < 1 or sum(counts.values()) > total:
        raise ValueError(
            f"sizes {dict(sizes)} ask for {counts} of {total} samples; every part needs at least "
            "one."
        )
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(total)
    ends = np.cumsum(list(counts.values()))
    parts = zip(counts, np.split(order, ends)[:-1], strict=True)
    return {name: indices.tolist() for name, indices in parts}
