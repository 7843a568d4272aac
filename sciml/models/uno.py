"""U-NO: a neural operator whose layers change the resolution."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from sciml.layers import FourierBasis, Perceptron, Resample, SpectralConv
from sciml.layers.coordinates import with_coordinates
from sciml.models.card import Card
from solvers.grid import Grid


class UNO(nn.Module):
    """U-shaped neural operator [Rahman, Ross & Azizzadenesheli 2023, TMLR, arXiv:2204.11127].

        v_0 = P(a, x)
        v_l <- s( G T v_{l-1} )                 down, l = 1 .. L: T halves the points of every axis
        v_L <- s( G v_L )                       `bottom` times
        v_{l-1} <- [ s( T G v_l ), v_{l-1} ]    up, l = L .. 1: T doubles, the skip is concatenated
        u = Q v_0                               G v = K v + W v,  s = gelu

    K is a `SpectralConv` with modes[l - 1] modes per axis, W a linear map at each point, T is
    `Resample`; P and Q are two-layer perceptrons. Level l has channels[l] channels, level 0 being
    the grid of the data, on which nothing but P and Q acts.

    The paper's operator maps functions on one grid to functions on another. It is linear, so that
    the change of grid may stand before or after it: here it acts on the coarser of the two.
    T is the exact change of grid of band-limited functions, where the published code
    interpolates the pointwise branch by cubics and neuraloperator's resampling aliases. The
    shape is that of the published code for Darcy flow with a factor of 1: channels (w, 2 w, 4 w),
    modes (18, 8), one bottom layer. Its instance normalisation is not here, nor other ratios of
    resolution than 2. GELU on a coarse grid makes waves that the grid does not hold, as in FNO.

    A non-periodic axis gets its coordinate in [0, 1] as an input channel and a period of 1 +
    `padding` lengths in K; a periodic axis gets neither. On it the map is equivariant under shifts
    by 2^L points where 2^L divides the size.

    Input [b, in_channels, *space] on `grid` at any resolution, output [b, out_channels, *space].
    On grids that do not hold 2 modes[l] points at level l + 1 the missing modes are left out.
    """

    card = Card("Rahman et al. 2023, arXiv:2204.11127")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int,
        *,
        grid: Grid,
        channels: Sequence[int] = (32, 64, 128),
        modes: Sequence[int] = (8, 4),
        bottom: int = 1,
        padding: float = 0.25,
    ):
        super().__init__()
        _check(grid, ndim, channels, modes)
        if bottom < 0 or not 0 <= padding < torch.inf:
            raise ValueError(f"UNO: bottom={bottom} and padding={padding} must not be negative.")
        self.grid, self.in_channels = grid, in_channels
        self.modes = [(m,) * ndim for m in modes]
        self.period = tuple(1.0 if axis.is_periodic else 1 + padding for axis in grid.axes)
        walls = sum(not axis.is_periodic for axis in grid.axes)
        upper, lower, last = channels[:-1], channels[1:], channels[-1]
        joined = (*(2 * c for c in lower[:-1]), last)  # there is no skip at the last level
        self.lifting = Perceptron(in_channels + walls, max(channels[0] // 2, 1), channels[0])
        self.down = nn.ModuleList(map(_Operator, upper, lower, self.modes))
        self.bottom = nn.ModuleList(_Operator(last, last, self.modes[-1]) for _ in range(bottom))
        self.up = nn.ModuleList(map(_Operator, joined, upper, self.modes))
        self.projection = Perceptron(2 * channels[0], channels[0], out_channels)

    def forward(self, a: Tensor) -> Tensor:
        ndim = self.grid.ndim
        if a.ndim != 2 + ndim or a.shape[1] != self.in_channels:
            raise ValueError(
                f"UNO: expected [batch, {self.in_channels} channels, {ndim} axes of points], got "
                f"shape {tuple(a.shape)}."
            )
        grids = _levels(self.grid.resized(a.shape[2:]), len(self.modes))
        bases = [
            FourierBasis(grid, modes, self.period, like=a)
            for grid, modes in zip(grids[1:], self.modes, strict=True)
        ]
        v = a.movedim((0, 1), (-2, -1))  # [*space, b, c]
        walls = tuple(axis for axis in grids[0].axes if not axis.is_periodic)
        v = self.lifting(with_coordinates(v, grids[0], walls))
        skips = []
        for level, operator in enumerate(self.down):
            skips.append(v)
            coarser = Resample(grids[level], grids[level + 1], like=a)
            v = gelu(operator(coarser(v), bases[level]))
        for operator in self.bottom:
            v = gelu(operator(v, bases[-1]))
        for level in reversed(range(len(self.up))):
            finer = Resample(grids[level + 1], grids[level], like=a)
            v = gelu(finer(self.up[level](v, bases[level])))
            v = torch.cat((v, skips.pop()), dim=-1)
        return self.projection(v).movedim((-2, -1), (0, 1)).contiguous()


class _Operator(nn.Module):
    """G v = K v + W v"""

    def __init__(self, in_channels: int, out_channels: int, modes: Sequence[int]):
        super().__init__()
        self.convolution = SpectralConv(in_channels, out_channels, modes)
        self.skip = nn.Linear(in_channels, out_channels, bias=False)

    def forward(self, v: Tensor, basis: FourierBasis) -> Tensor:
        return self.convolution(v, basis) + self.skip(v)


def _levels(grid: Grid, depth: int) -> list[Grid]:
    """The grid and `depth` coarser ones, each with half the intervals of that before."""
    grids = [grid]
    for _ in range(depth):
        axes = grids[-1].axes
        sizes = (a.size // 2 + 1 if a.points == "nodes" else (a.size + 1) // 2 for a in axes)
        grids.append(grid.resized(tuple(sizes)))
    return grids


def _check(grid: Grid, ndim: int, channels: Sequence[int], modes: Sequence[int]) -> None:
    if grid.ndim != ndim:
        raise ValueError(f"UNO: ndim={ndim}, but the grid has {grid.ndim} axes.")
    if not modes or len(channels) != len(modes) + 1 or min(*channels, *modes) < 1:
        raise ValueError(
            f"UNO: channels={tuple(channels)} must be one number for each level, the grid of the "
            f"data first, and modes={tuple(modes)} one for each level but that."
        )
    for level, (m, coarse) in enumerate(zip(modes, _levels(grid, len(modes))[1:], strict=True), 1):
        if 2 * m > min(coarse.shape):
            raise ValueError(
                f"UNO: modes={tuple(modes)} needs {2 * m} points at level {level}, which has "
                f"{coarse.shape} of the {grid.shape} of the data; lower model.modes or raise the "
                "resolution."
            )
