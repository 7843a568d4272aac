"""A recipe that is solved by hand, for tests of everything around recipes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch

from datasets import Field, Metadata, Recipe, Solution
from datasets.generate import generate
from solvers.grid import Grid

COUNTS = {"train": 11, "valid": 3, "test": 3}
SHARDS = 5


class TinyRecipe(Recipe):
    """k = c sin(pi x) sin(pi y) + 2 with c ~ N(0, 1), u = k^2 - 1, and c as parameter `amplitude`.

    `spoil` names what goes wrong where c > threshold; with seed 3 that is sample 2 of valid alone.
    """

    name, ndim = "tiny", 2
    solver = {"name": "by hand", "version": 1, "parameters": {}}

    def __init__(self, spoil: str | None = None, threshold: float = 2.1):
        self.spoil, self.threshold = spoil, threshold

    def metadata(self, shape) -> Metadata:
        fields = (Field("k", "m^2"),), (Field("u", "Pa"),)
        return Metadata("tiny", *fields, Grid.box(shape), parameters=("amplitude",))

    def solve(self, generators, shape) -> Solution:
        c = torch.cat([torch.randn(1, generator=g, dtype=torch.float64) for g in generators])
        x, y = Grid.box(shape).mesh()
        k = c[:, None, None] * torch.sin(torch.pi * x) * torch.sin(torch.pi * y) + 2
        u, residual = k.square() - 1, torch.full_like(c, 1e-12)
        bad = c > self.threshold
        if self.spoil == "nan":
            u[bad, 1, 2] = torch.nan
        elif self.spoil == "unconverged":
            residual[bad] = 1e-3
        elif self.spoil == "raise" and bad.any():
            raise ArithmeticError("the pump has stopped")
        elif self.spoil == "raise together" and len(generators) > 1:
            raise ArithmeticError("too many")
        elif self.spoil == "overflow":
            u[bad] *= 1e39
        return Solution({"k": k, "u": u}, residual, 1e-8, {"amplitude": c})


@contextmanager
def tiny_shards() -> Iterator[None]:
    """Configurations name TinyRecipe's arguments, and a shard holds five samples."""

    def instantiate(config):
        return TinyRecipe(**{key: value for key, value in config.items() if key != "_target_"})

    with (
        patch("datasets.shards.instantiate", instantiate),
        patch("datasets.shards.MAX_SAMPLES", SHARDS),
    ):
        yield


def make_tiny(root: Path, *, counts: Mapping[str, int] = COUNTS, **recipe) -> Path:
    """The data set of a tiny recipe on 4 x 6 points, below `root`: 3 + 1 + 1 shards."""
    config = {"_target_": "tests.TinyRecipe", **recipe}
    with tiny_shards():
        return generate(config, root, counts, resolution=[4, 6], seed=3, progress=False)


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a data set by name, the lock apart."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files if p.name != ".lock"}
