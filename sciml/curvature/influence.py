"""Which training samples a prediction hangs on."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn

from sciml.curvature.factored import Factored
from sciml.curvature.parameter_vector import real
from sciml.curvature.shared_basis import SharedBasis
from sciml.gauss_newton import Expansion

Expand = Callable[[Sequence[int]], Expansion]
DRAWS = 32  # of the noise, at least: a diagonal of few has no inverse to rely on
AT_ONCE = 1 << 28  # numbers of the directions that are held


class Influence:
    """What leaving a training sample out would do to the loss of a query [Koh & Liang 2017,
    arXiv:1703.04730, eq. 2; with EK-FAC: Grosse et al. 2023, arXiv:2308.03296].

        score(q, m) = 1/n  grad l_q . (G + lambda)^(-1) grad l_m

    to first order the change of the query's loss l_q when sample m of n is left out of a training
    that has converged to the mean of the l_m: a positive score is that of a sample from which the
    prediction has profited. G is the Gauss-Newton matrix over the training set in Kronecker
    eigenbases (`SharedBasis`, eigenvalues measured in a second pass), lambda `damping` times its
    mean eigenvalue in every block. Layers without known factors, by their diagonal. G is sampled
    from parts of equal size, at most `batch_size`, one draw of noise each: as many as the samples
    allow, and at least 32 in all `passes` together.

    `expand(numbers)` is the `Expansion` of the mean loss over these training samples, such as
    `lambda numbers: task.expand(source.__getitems__(numbers))`; there are `count` of them. Networks
    are not trained to convergence, and other random numbers lead to other minima: scores rank
    samples, their size is not the change that retraining shows.
    """

    def __init__(
        self,
        model: nn.Module,
        expand: Expand,
        count: int,
        *,
        damping: float = 1e-2,
        batch_size: int = 32,
        passes: int = 1,
    ):
        if count < 1 or batch_size < 1 or passes < 1 or not damping > 0:
            raise ValueError(
                f"count={count}, batch_size={batch_size} and passes={passes} must be at least 1, "
                f"damping={damping} positive."
            )
        self.model, self.expand, self.count = model, expand, count
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        size = equal_size(count, min(batch_size, max(count // DRAWS, 1)))
        parts = [range(i, i + size) for i in range(0, count, size)]
        passes = max(passes, math.ceil(DRAWS / len(parts)))
        self.draws, self._part = passes * len(parts), parts[0]
        self.curvature = Factored(
            model,
            lambda samples: self.expand(self._part),
            partial(SharedBasis, eigenvalues="corrected"),
            damping=damping,
            floor=0.0,
            decay=1 - 1e-12,  # plain means over all passes
        )
        for refresh in (self.curvature.refresh, self._damp):  # bases, then eigenvalues in them
            self.curvature.passes = 0  # what comes takes the place of what was
            for _ in range(passes):
                for part in parts:
                    self._part = part
                    self.curvature.observe()
            refresh()

    def _damp(self) -> None:
        """Damping for the new eigenvalues, in the same bases."""
        for block in self.curvature.blocks.values():
            if isinstance(block, SharedBasis):
                block.damp(self.curvature.damping, self.curvature.floor)

    def scores(self, queries: Iterable[Expansion]) -> Tensor:
        """[queries, count], in the units of the loss; `queries` are losses of their own, of test
        samples for instance, and are used one after the other.
        """
        queries, found = iter(queries), []
        held = max(AT_ONCE // sum(real(p).numel() for p in self.parameters), 1)
        while chosen := [self._direction(query) for query in islice(queries, held)]:
            directions = torch.stack(chosen)
            found.append(torch.stack([directions @ g for g in self._gradients()], dim=1))
        if not found:
            raise ValueError("queries: there are none.")
        return torch.cat(found) / self.count

    def _direction(self, query: Expansion) -> Tensor:
        """(G + lambda)^(-1) grad l_q."""
        gradients = dict(zip(self.parameters, self._gradient(query), strict=True))
        moved = dict(self.curvature.apply(gradients.get))
        return torch.cat([moved[p].reshape(-1) for p in self.parameters])

    def _gradients(self) -> Iterator[Tensor]:
        """Of every training sample."""
        for m in range(self.count):
            yield torch.cat([g.reshape(-1) for g in self._gradient(self.expand([m]))])

    def _gradient(self, expansion: Expansion) -> list[Tensor]:
        found = torch.autograd.grad(expansion.value, self.parameters, allow_unused=True)
        return [
            torch.zeros_like(real(p)) if g is None else real(g)
            for p, g in zip(self.parameters, found, strict=True)
        ]


def equal_size(count: int, most: int) -> int:
    """The largest size up to `most` of parts of which a whole number makes `count`."""
    return next(size for size in range(most, 0, -1) if count % size == 0)
