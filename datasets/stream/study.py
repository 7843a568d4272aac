"""What a stream of simulations consists of."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from datasets.build import instantiate
from datasets.recipe import sample_generator
from datasets.schema import Metadata
from datasets.simulation import Simulated


@dataclass(frozen=True)
class Study:
    """`count` simulations of a recipe on a grid of `shape`, `lanes` of them at a time.

    Simulation i has the random numbers of training sample i of the data set (recipe, seed), a
    function of (seed, i) alone: it is the same whoever computes it, and how often. Lane j computes
    simulations j, j + lanes, j + 2 lanes ... one after another. With `stagger` lane j begins
    j/lanes of a simulation later, so that all phases of a solution arrive side by side.

    Where `ranks` processes train one model, each has a study of `count` simulations of its own:
    simulation k of rank r is number r + ranks k of the whole, and that is what it is called.

    No number of a solution may exceed `largest`: one that does has blown up.

    All values are plain, so that a study travels as JSON (`to_json`) to whoever computes.
    """

    recipe: Mapping[str, Any]
    shape: tuple[int, ...]
    seed: int
    count: int
    lanes: int
    frames: int = 1
    stagger: bool = True
    largest: float = 1e10
    faults: Mapping[str, Any] = field(default_factory=dict)
    rank: int = 0
    ranks: int = 1

    def make(self) -> tuple[Simulated, Metadata]:
        """The recipe and what its solutions are. Random numbers are drawn in the alphabetical order
        of the parameters, as those of stored samples are, whatever the order of the metadata.
        """
        sorted_recipe = json.loads(json.dumps(self.recipe, sort_keys=True))
        return instantiate(sorted_recipe), instantiate(self.recipe).metadata(self.shape)

    def generator(self, simulation: int) -> torch.Generator:
        return sample_generator(self.seed, "train", simulation)

    def drawn(self, simulation: int, given: Mapping[str, float] | None) -> dict[str, float]:
        """The parameters of a simulation; nothing is solved."""
        recipe, _ = self.make()
        found = recipe.simulate(self.generator(simulation), self.shape, given)
        return dict(found.parameters)

    def lane(self, simulation: int) -> int:
        return simulation // self.ranks % self.lanes

    def offset(self, lane: int) -> int:
        """Ticks before a lane begins."""
        return lane * self.frames // self.lanes if self.stagger else 0

    def after(self, simulation: int) -> int | None:
        """The next simulation of the same lane."""
        following = simulation + self.ranks * self.lanes
        return following if following // self.ranks < self.count else None

    def firsts(self) -> Iterator[int]:
        """The first simulation of each lane."""
        return (self.rank + self.ranks * k for k in range(min(self.lanes, self.count)))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Study":
        values = json.loads(text)
        return cls(**{**values, "shape": tuple(values["shape"])})
