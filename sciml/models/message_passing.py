"""Message passing neural PDE solver."""

import torch
from torch import Tensor, nn

from datasets.schema import Frames
from sciml.layers.coordinates import with_coordinates
from sciml.layers.neighbours import Neighbours
from sciml.layers.window import Window
from sciml.models.card import Card
from solvers.grid import Grid

KERNELS = {20: 15, 25: 16, 50: 12}  # of the decoder's first convolution, as published; others: 16


class MessagePassing(nn.Module):
    """Message passing neural PDE solver [Brandstetter, Worrall & Welling 2022, ICLR,
    arXiv:2202.03376, eqs. 8-10].

        h_i = E(u_i, x_i, theta_i)
        m_ij = phi(h_i, h_j, u_i - u_j, x_i - x_j, theta_i)
        h_i <- N( h_i + psi(h_i, mean_j m_ij, theta_i) )               `depth` times
        u_i(t + k dt) = u_i(t) + (k / n) d_k(h_i),    k = 1 .. n

    u_i holds the history of point i, theta_i what is constant in time (parameters, coefficients,
    the time), and j runs over the points within `radius` grid spacings (`Neighbours`): 2 r in one
    dimension, 4, 8 or 12 for 1, 1.5 or 2 in two. E, phi and psi are two-layer perceptrons of
    `hidden` channels with s(z) = z sigmoid(z); N normalises each channel over the points. The
    decoder d, two convolutions along the channels of h_i, gives all n output frames at once
    (temporal bundling); time is measured in lengths of that window, so data need no time step. A
    steady map, and a part of the state, are d itself.

    Input [b, in_channels, *space] with the frames that `frames` names, output [b, out_channels,
    *space]. A change of the input at one point reaches `depth` * `radius` grid spacings, but for
    N, which sees the mean and variance of all points. x_i is the coordinate on axes with walls;
    periodic axes have none, which makes the solver translation-equivariant there. x_i - x_j is in
    lengths of the domain, as published. Weights fit every grid, but what was learnt of neighbours
    belongs to their distance: on a grid twice as fine the messages come from half as far, so
    train on the resolution that you need.

    The published solver is hidden=128, depth=6, 25 frames in and out. What differs from the
    published code: the first layer of phi is applied to points and not to pairs, which is the
    same sum; a stencil instead of a search for neighbours; other windows than 20, 25 and 50.
    """

    card = Card("Brandstetter et al. 2022, arXiv:2202.03376")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int,
        *,
        grid: Grid,
        frames: Frames | None = None,
        hidden: int = 128,
        depth: int = 6,
        radius: float = 1.5,
    ):
        super().__init__()
        self.grid, self.window = grid, Window(frames, in_channels, out_channels)
        if grid.ndim != ndim or depth < 1 or hidden < 1:
            raise ValueError(
                f"MessagePassing: ndim={ndim} must be that of the grid, {grid.ndim}, and "
                f"depth={depth} and hidden={hidden} at least 1."
            )
        self.radius = radius
        Neighbours(grid, radius)  # refuses what does not fit
        history, horizon, channels = self.window.frames[:3]
        past, constants = history * channels, self.window.constants
        walls = sum(not axis.is_periodic for axis in grid.axes)
        self.encoder = _perceptron(past + walls + constants, hidden)
        self.layers = nn.ModuleList(
            MessageLayer(hidden, past, ndim, constants) for _ in range(depth)
        )
        self.decoder = _decoder(hidden, horizon, self.window.states)
        fraction = torch.arange(1, horizon + 1) / horizon
        self.register_buffer("fraction", fraction, persistent=False)

    def forward(self, a: Tensor) -> Tensor:
        if a.ndim != 2 + self.grid.ndim or a.shape[1] != self.window.in_channels:
            raise ValueError(
                f"MessagePassing: expected [batch, {self.window.in_channels} channels, "
                f"{self.grid.ndim} axes of points], got shape {tuple(a.shape)}."
            )
        batch, shape = len(a), a.shape[2:]
        grid = self.grid.resized(shape)
        neighbours = Neighbours(grid, self.radius).to(a)
        walls = tuple(axis for axis in grid.axes if not axis.is_periodic)
        parts = (a.shape[1] - self.window.constants, self.window.constants)
        fields, theta = a.movedim((0, 1), (-2, -1)).split(parts, dim=-1)  # [*space, b, c]
        placed = with_coordinates(fields, grid, walls)
        u, placed, theta = (x.flatten(0, -3) for x in (fields, placed, theta))  # [points, b, c]
        h = self.encoder(torch.cat((placed, theta), dim=-1))
        for layer in self.layers:
            h = layer(h, u, theta, neighbours)
        d = self.decoder(h.reshape(-1, 1, h.shape[-1])).transpose(1, 2)  # [points * b, n, c]
        d = d.reshape(*h.shape[:2], -1, self.window.states)
        if self.window.evolves:
            last = u[..., -self.window.states :].unsqueeze(2)
            d = last + self.fraction[:, None] * d
        return d.permute(1, 2, 3, 0).reshape(batch, -1, *shape)


class MessageLayer(nn.Module):
    """h_i <- N( h_i + psi(h_i, mean_j phi(h_i, h_j, u_i - u_j, x_i - x_j, theta_i), theta_i) ).

    h [points, b, hidden], u [points, b, past] and theta [points, b, constants].
    """

    def __init__(self, hidden: int, past: int, ndim: int, constants: int):
        super().__init__()
        self.parts = (hidden, hidden, past, ndim, constants)
        self.message = _perceptron(sum(self.parts), hidden)
        self.update = _perceptron(2 * hidden + constants, hidden)
        self.norm = PointNorm()

    def forward(self, h: Tensor, u: Tensor, theta: Tensor, neighbours: Neighbours) -> Tensor:
        first, *rest = self.message
        own, other, change, place, constant = first.weight.split(self.parts, dim=1)
        of_i = h @ own.T + u @ change.T + theta @ constant.T + first.bias  # linear parts of phi
        of_j = h @ other.T - u @ change.T
        mean = torch.zeros_like(of_i)
        moves = -neighbours.offset @ place.T  # x_i - x_j
        for j, share, move in zip(neighbours.index.T, neighbours.share.T, moves, strict=True):
            message = of_i + of_j.index_select(0, j) + move
            for layer in rest:
                message = layer(message)
            mean = torch.addcmul(mean, share[:, None, None], message)
        return self.norm(h + self.update(torch.cat((h, mean, theta), dim=-1)))


class PointNorm(nn.Module):
    """Mean 0 and variance 1 over the points, for each sample and channel of [points, b, c]."""

    def forward(self, h: Tensor) -> Tensor:
        h = h - h.mean(dim=0)
        return h * (h.square().mean(dim=0) + 1e-5).rsqrt()


def _perceptron(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())


def _decoder(hidden: int, horizon: int, states: int) -> nn.Sequential:
    """Two convolutions along the hidden channels, from [., 1, hidden] to [., states, horizon]."""
    stride = max(1, hidden // (horizon + 10))
    kernel = min(KERNELS.get(horizon, 16), (hidden - horizon) // 2 + 1)
    length = (hidden - kernel) // stride + 1 if kernel > 0 else 0
    if length < horizon:
        raise ValueError(
            f"MessagePassing: hidden={hidden} channels cannot be decoded to {horizon} frames; "
            f"take at least {horizon}."
        )
    return nn.Sequential(
        nn.Conv1d(1, 8, kernel, stride), nn.SiLU(), nn.Conv1d(8, states, length - horizon + 1)
    )
