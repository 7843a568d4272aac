"""What all time-dependent equations share: a step, its right-hand side, trajectories."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from solvers.grid import Grid


class Unstable(RuntimeError):
    """A time step left the finite numbers, or would violate the limit of its scheme."""


class Evolution(ABC):
    """u_t = F(u) on a grid: a stepper `u -> u_next` over the time `dt`, [b, c, *space] both.

    `fields` names the components c. Steps are differentiable in u and, where an equation takes
    tensors, in its parameters.
    """

    grid: Grid
    dt: float
    fields: tuple[str, ...]

    @abstractmethod
    def advance(self, u: Tensor) -> Tensor:
        """u after `dt`; shapes are checked and numbers are not."""

    @abstractmethod
    def rhs(self, u: Tensor) -> Tensor:
        """F(u) [b, c, *space] of the same discretisation in space."""

    @abstractmethod
    def halved(self) -> "Evolution":
        """The same step in twice as many substeps, which shows how much the time step matters;
        itself where time is exact.
        """

    def tail(self, u: Tensor) -> Tensor:
        """Share of u that the grid hardly resolves, [b, c]; 0 where a method does not say."""
        return u.new_zeros(u.shape[:2])

    def __call__(self, u: Tensor) -> Tensor:
        """u after `dt`. Raises ValueError for a wrong shape and `Unstable` for NaN or infinity."""
        self._check(u)
        after = self.advance(u)
        bad = ~after.detach().isfinite().flatten(1).all(dim=1)
        if bad.any():
            sample = int(bad.nonzero()[0])
            largest = float(u[sample].detach().abs().max())
            raise Unstable(
                f"{type(self).__name__}: sample {sample} of {len(u)} is not finite after a step of "
                f"dt={self.dt:g} from values up to {largest:.3g}. Take more "
                "substeps, a finer grid, or more viscosity."
            )
        return after

    def residual(self, u: Tensor, u_next: Tensor) -> Tensor:
        """(u_next - u) / dt - (F(u) + F(u_next)) / 2, for physics losses; zero up to O(dt^2)."""
        self._check(u)
        self._check(u_next)
        return (u_next - u) / self.dt - (self.rhs(u) + self.rhs(u_next)) / 2

    def per_sample(self, value: float | Tensor, like: Tensor | None = None) -> float | Tensor:
        """A number, or one for each sample [b], broadcastable to [b, c, *space]; in the precision
        and on the device of `like`, or on the CPU, where multipliers are made.
        """
        if isinstance(value, Tensor) and value.dim() > 0:
            value = value.cpu() if like is None else value.to(like)
            return value.view(-1, 1, *[1] * self.grid.ndim)
        return value

    def _check(self, u: Tensor) -> None:
        expected = (len(self.fields), *self.grid.shape)
        if u.dim() != len(expected) + 1 or tuple(u.shape[1:]) != expected:
            raise ValueError(
                f"{type(self).__name__}: expected [b, {', '.join(map(str, expected))}] with the "
                f"fields {', '.join(self.fields)}, got {tuple(u.shape)}."
            )


def frames(stepper: Callable[[Tensor], Tensor], u: Tensor, steps: int) -> Iterator[Tensor]:
    """u after 1, 2, ... steps, one at a time."""
    for _ in range(steps):
        u = stepper(u)
        yield u


def rollout(
    stepper: Callable[[Tensor], Tensor], u: Tensor, steps: int, *, recompute: bool = False
) -> Tensor:
    """The trajectory [b, 1 + steps, c, *space] that begins with u [b, c, *space].

    With `recompute` the backward pass computes each step once more instead of keeping what lies
    inside it: the memory of a gradient is that of the trajectory and one step.
    """
    if recompute:
        inner = stepper
        stepper = lambda v: checkpoint(inner, v, use_reentrant=False)  # noqa: E731
    return torch.stack([u, *frames(stepper, u, steps)], dim=1)
