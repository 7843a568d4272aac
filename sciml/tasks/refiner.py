"""Spectral refinement: a prediction is fitted to its equation, without a target."""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor
from torch.linalg import vector_norm

from sciml.models import STFNO, Surrogate
from sciml.sobolev import sobolev_norm
from sciml.tasks.spectral_scaling import scale, unscale
from solvers.evolution import Evolution


class Refined(NamedTuple):
    """`prediction` [b, out_channels, *space]; norm of the residual `before` and `after`, [b]."""

    prediction: Tensor
    before: Tensor
    after: Tensor


class StepDefect:
    """(u_next - S u) / dt with the step S of a solver: zero for the solver's own trajectory.

    An equation's `residual` compares with half a step from either side instead. That costs two
    evaluations of the right-hand side, however long dt is, but is zero up to O(dt^2) only.
    """

    def __init__(self, equation: Evolution):
        self.equation = equation

    def __call__(self, u: Tensor, u_next: Tensor) -> Tensor:
        return (u_next - self.equation(u)) / self.equation.dt


class SpectralRefiner:
    """Fits the last layer of a trained `STFNO` to each new instance [Cao, Brarda, Li & Xi 2025,
    ICLR, arXiv:2405.17211].

        min over R, b:   sum_n dt || r(u_n, u_{n+1}) ||^2 in H^-1,    u_n = u_0 + (Q v)_n

    No target is needed: u_0 is the last frame of the input, and all before the output operator Q
    is frozen, so v is found once. Q, a `SpectralOutput` with weights R and spectral bias b, first
    gets `modes` modes of space and `modes_time` of time, by default as many as grid and frames
    hold. The fit is in float64, by `iterations` steps of L-BFGS; its unknowns are R and b over
    (alpha + |k|^2)^(1/2), in which a change of u in time counts alike in all modes.

        surrogate = Surrogate.load("runs/.../model")
        equation = NavierStokes(surrogate.metadata.grid, viscosity=1e-3, dt=1.0, substeps=32)
        refined = SpectralRefiner(surrogate, equation)(a)

    `equation` is in physical units on the grid of the instance, its dt the time between frames;
    `residual(u, u_next)` is `StepDefect(equation)` unless given, such as `equation.residual`. The
    norm is a sum over Fourier modes (`sobolev_norm`, with its `alpha`), so grids must be periodic.
    On long windows of chaotic flow a small residual need not mean a small error. Nor is this a
    faster solver: a step of L-BFGS takes the equation a step on from every frame, and back. All
    frames move at once, though, where a solver has to take one after the other.

    What differs from the published code. It takes u_t from steps of 1e-6 of a solver that start
    at u_n, which leaves next to no residual for any u_n, right or wrong; here it is the difference
    of successive frames of the prediction. It makes 50 steps of Adam with
    two rates that have to be chosen.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        equation: Evolution,
        *,
        residual: Callable[[Tensor, Tensor], Tensor] | None = None,
        modes: Sequence[int] | None = None,
        modes_time: int | None = None,
        alpha: float = 1.0,
        iterations: int = 50,
    ):
        self.frames = frames = surrogate.metadata.frames
        if not isinstance(surrogate.model, STFNO) or not surrogate.model.window.evolves:
            raise ValueError(
                "SpectralRefiner: needs an STFNO that predicts later frames of the whole state, "
                f"got {type(surrogate.model).__name__}."
            )
        if not all(axis.is_periodic for axis in equation.grid.axes):
            raise ValueError(
                f"SpectralRefiner: the norm is for periodic grids, got {equation.grid.boundary}."
            )
        if frames.dt is None or not math.isclose(frames.dt, equation.dt, rel_tol=1e-6):
            raise ValueError(
                f"SpectralRefiner: the frames are dt={frames.dt} apart, the equation steps by "
                f"dt={equation.dt}; both must be one number (data.window.stride=1)."
            )
        self.surrogate, self.equation = deepcopy(surrogate).double().eval(), equation
        if not 0 < alpha < torch.inf:
            raise ValueError(f"SpectralRefiner: alpha={alpha} must be positive.")
        self.residual, self.alpha = residual or StepDefect(equation), alpha
        self.modes, self.modes_time, self.iterations = modes, modes_time, iterations

    def __call__(self, a: Tensor) -> Refined:
        """Refines every sample of a [b, in_channels, *space] on its own."""
        parts = []
        for sample in a.double().split(1):
            refined = self.fit(sample)
            with torch.no_grad():
                u = refined(sample)
                norms = [self.norm(sample, w) for w in (self.surrogate(sample), u)]
            parts.append((u, *norms))
        return Refined(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def fit(self, a: Tensor) -> Surrogate:
        """The surrogate with an output operator for the instance a [1, in_channels, *space] alone.
        Its configuration is still that of the unrefined one, so it is not for saving.
        """
        refined = deepcopy(self.surrogate).requires_grad_(False)
        model, shape = refined.model, a.shape[2:]
        modes = self.modes or tuple(n // 2 for n in shape)
        last = self.frames.horizon if self.modes_time is None else self.modes_time - 1
        model.output = model.output.enlarged((*modes, last))
        with torch.no_grad():
            latent = model.latent(*model.window.split(refined.input_normalizer(a)))
        scale(model.output, self.equation.grid, self.alpha)
        optimizer = torch.optim.LBFGS(
            model.output.parameters(),
            max_iter=self.iterations,
            history_size=10,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            u = model.predict(*latent, self.frames.horizon).flatten(1, 2)
            value = self.norm(a, refined.target_normalizer.inverse(u)).square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        unscale(model.output)
        return refined.requires_grad_(False)

    def norm(self, a: Tensor, u: Tensor) -> Tensor:
        """( sum_n dt || r(u_n, u_{n+1}) ||^2 )^(1/2) in H^-1, [b], of the prediction u for a."""
        states = [self.newest(a), *u.unflatten(1, (self.frames.horizon, -1)).unbind(dim=1)]
        residuals = [self.residual(*pair) for pair in zip(states, states[1:], strict=False)]
        norms = sobolev_norm(torch.stack(residuals, dim=1), self.equation.grid, -1.0, self.alpha)
        return self.frames.dt**0.5 * vector_norm(norms.flatten(1), dim=1)

    def newest(self, a: Tensor) -> Tensor:
        """The last frame of the input, from which the equation goes on."""
        history, _, channels = self.frames[:3]
        return a[:, (history - 1) * channels : history * channels]
