"""Spatio-temporal Fourier neural operator: from a trajectory to the one that follows."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from datasets.schema import Frames
from sciml.layers import FourierBasis
from sciml.layers.spacetime import SpectralMap, SpectralOutput, encoding, spacetime
from sciml.layers.window import Window
from sciml.models.card import Card
from solvers.grid import Grid


class STFNO(nn.Module):
    """Spatio-temporal Fourier neural operator [Cao, Brarda, Li & Xi 2025, ICLR, arXiv:2405.17211].

        v = P N(u + e),    v_0 = s( v(., T) + M K v ),    v <- s( M K v + W v ) `depth` times,
        u(., T + t) = u(., T) + Q v

    on space and time together. e are `width` encodings of place and time (`growth` is the paper's
    beta), N normalises each sample, K multiplies the lowest `modes` modes of space and the
    `modes_time` of time, M is a perceptron width -> 4 width -> width and W, P linear, all at each
    point, s = GELU (later releases: ReLU). The first K goes from the times of the input to
    `latent_steps`. Q reduces v to the channels of the state, puts the last input frame before it,
    continues both by zero over as long a time again, and brings them by one `SpectralOutput` to
    the times of the target: those are only named there, so `trajectory` takes and gives any
    number of frames.

    Input [b, in_channels, *space], output [b, out_channels, *space] in one or two dimensions, with
    the frames in the channels as `frames` says. Channels that are constant in time accompany every
    frame. A steady map is one frame; there, and where only a part of the state is asked for, the
    output is v + Q v instead. Non-periodic axes of space get a period of 1 + `padding` lengths.

    The published networks are width=20, modes=12 (forced turbulence, 9,242,461 parameters) and
    width=10, modes=32 (isotropic turbulence, 16,469,791), each with modes_time=5, latent_steps=10,
    depth=3. What differs from the published code: periodic axes have no coordinate, which would
    jump at the seam; spectra are scaled by the number of points, so that all grids and time steps
    agree; target times end where the latent ones do; a history shorter than the latent steps is
    continued by its oldest frame instead of refused; several channels take turns in the encodings;
    and velocities are not projected on divergence-free fields, since normalised components have
    another divergence.

    It is for windows of several frames. For a steady map, or one step over which a state changes
    altogether, FNO is the better choice: what Q cannot hold, modes beyond `modes`, stays that of
    the last input frame, in normalised units.
    """

    card = Card("Cao et al. 2025, arXiv:2405.17211", dimensions=(1, 2))

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int,
        *,
        grid: Grid,
        frames: Frames | None = None,
        width: int = 20,
        modes: int | Sequence[int] = 12,
        modes_time: int = 5,
        depth: int = 3,
        latent_steps: int = 10,
        growth: float = 0.02,
        padding: float = 0.25,
    ):
        super().__init__()
        modes = (modes,) * ndim if isinstance(modes, int) else tuple(modes)
        self.grid, self.window = grid, Window(frames, in_channels, out_channels)
        if grid.ndim != ndim or len(modes) != ndim:
            raise ValueError(
                f"STFNO: ndim={ndim}, but the grid has {grid.ndim} axes and modes={modes}."
            )
        if min(*modes, modes_time, depth, latent_steps) < 1 or not 0 <= padding < torch.inf:
            raise ValueError(
                f"STFNO: modes={modes}, modes_time={modes_time}, depth={depth} and latent_steps="
                f"{latent_steps} must be at least 1, padding={padding} not negative."
            )
        if any(2 * m > n for m, n in zip(modes, grid.shape, strict=True)):
            raise ValueError(
                f"STFNO: modes={modes} needs at least {tuple(2 * m for m in modes)} points, the "
                f"data have {grid.shape}; lower model.modes or raise the resolution."
            )
        history, horizon, channels = self.window.frames[:3]
        walls = sum(not axis.is_periodic for axis in grid.axes)
        least = max(walls + 1, channels + self.window.constants)
        if width < least:
            raise ValueError(
                f"STFNO: width={width} must be at least {least}, for the channels of a frame, the "
                "constants and the coordinates."
            )
        self.width, self.growth, states = width, growth, self.window.states
        self.steps = steps = min(latent_steps, max(history, horizon))  # no more than frames
        self.period = tuple(1.0 if axis.is_periodic else 1 + padding for axis in grid.axes)
        self.modes = (*modes, min(modes_time - 1, steps // 2))
        self.norm = nn.GroupNorm(1, width, eps=1e-7)
        self.lifting = nn.Linear(width, width)
        self.first = nn.ModuleList((SpectralMap(width, width, self.modes), _perceptron(width)))
        self.blocks = nn.ModuleList(Block(width, self.modes) for _ in range(depth))
        self.reduction = nn.Linear(width, states)
        self.output = SpectralOutput(states, (*modes, min(modes_time - 1, steps, horizon)))

    def forward(self, a: Tensor) -> Tensor:
        if a.ndim != 2 + self.grid.ndim or a.shape[1] != self.window.in_channels:
            raise ValueError(
                f"STFNO: expected [batch, {self.window.in_channels} channels, {self.grid.ndim} "
                f"axes of points], got shape {tuple(a.shape)}."
            )
        past, constants = self.window.split(a)
        return self.trajectory(past, constants, self.window.frames.horizon).flatten(1, 2)

    def trajectory(self, past: Tensor, constants: Tensor, horizon: int) -> Tensor:
        """The next `horizon` frames [b, horizon, states, *space].

        `past` are frames [b, t, channels, *space] and `constants` fields [b, m, *space]. Whatever
        their number, those that follow fill the time of the horizon that the model was trained on
        at equal distances, and the frames of the past that of its history; fewer of them than
        `latent_steps` are preceded by copies of the oldest.
        """
        return self.predict(*self.latent(past, constants), horizon)

    def latent(self, past: Tensor, constants: Tensor) -> tuple[Tensor, Tensor]:
        """What `predict` corrects, [*space, 1, b, states], and what it makes the correction from,
        [*space, 1 + latent steps, b, states].
        """
        missing = self.steps - past.shape[1]
        past = torch.cat((past[:, :1].expand(-1, max(missing, 0), *past.shape[2:]), past), dim=1)
        constants = constants.unsqueeze(1).expand(-1, past.shape[1], *constants.shape[1:])
        u = torch.cat((past, constants), dim=2).movedim((1, 0, 2), (-3, -2, -1))
        grid, count = self.grid.resized(u.shape[:-3]), u.shape[-1]
        given, inner = (
            FourierBasis(spacetime(grid, steps), self.modes, (*self.period, 1.0), like=u)
            for steps in (past.shape[1], self.steps)
        )
        v = u[..., torch.arange(self.width, device=u.device) % count]
        v = v + encoding(grid, past.shape[1], self.width, self.growth, like=u)
        v = self.norm(v.movedim((-2, -1), (0, 1))).movedim((0, 1), (-2, -1))
        v = self.lifting(v)
        convolution, mlp = self.first
        v = gelu(v[..., -1:, :, :] + mlp(convolution(v, given, inner)))
        for block in self.blocks:
            v = block(v, inner)
        v = self.reduction(v)
        if self.window.evolves:
            last = u[..., -1:, :, : self.window.states]
            return last, torch.cat((last, v), dim=-3)
        last = v[..., -1:, :, :]
        return last, torch.cat((torch.zeros_like(last), v), dim=-3)

    def predict(self, last: Tensor, v: Tensor, horizon: int) -> Tensor:
        """last + Q v over the next `horizon` frames, [b, horizon, states, *space]."""
        with torch.autocast(v.device.type, enabled=False):  # there are no complex halves
            analysis, synthesis = (self.basis(n, v) for n in (v.shape[-3] - 1, horizon))
            spectrum = self.output(analysis.analyse(v.to(self.output.bias.dtype)))
            change = synthesis.synthesise(spectrum)[..., 1:, :, :]
        return (last + change).movedim((-3, -2, -1), (1, 0, 2)).contiguous()

    def basis(self, steps: int, v: Tensor) -> FourierBasis:
        """Of the output: `steps` later times and their beginning, followed by zeros."""
        grid = spacetime(self.grid.resized(v.shape[:-3]), steps + 1, "nodes")
        like = v.to(self.output.bias.dtype)
        return FourierBasis(grid, self.output.modes, (*self.period, 2.0), like=like)


class Block(nn.Module):
    """v <- s( M K v + W v )."""

    def __init__(self, width: int, modes: Sequence[int]):
        super().__init__()
        self.convolution = SpectralMap(width, width, modes)
        self.mlp, self.skip = _perceptron(width), nn.Linear(width, width)

    def forward(self, v: Tensor, basis: FourierBasis) -> Tensor:
        return gelu(self.mlp(self.convolution(v, basis, basis)) + self.skip(v))


def _perceptron(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
