"""Latent spectral model in one, two and three dimensions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool1d, max_pool2d, max_pool3d

from sciml.layers import GridFit, NeuralSpectralBlock, SidedConv
from sciml.layers.coordinates import with_coordinates
from sciml.models.card import Card
from solvers.grid import Grid

POOL = (max_pool1d, max_pool2d, max_pool3d)
NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
LINEAR = ("linear", "bilinear", "trilinear")


class LSM(nn.Module):
    """Latent spectral model [Wu et al. 2023, ICML, arXiv:2301.12664].

    A U-shaped network whose scales pass through a `NeuralSpectralBlock` on the way across:

        v_0 = C_0 P(a, x),    v_{i+1} = C_{i+1} pool(v_i),    i = 0 .. levels - 1
        w_levels = S_levels v_levels,    w_i = U_i (S_i v_i, up(w_{i+1})),    u = Q w_0

    C_i and U_i are two 3-point convolutions with batch normalisation and ReLU, pool the maximum of
    2 points per axis, up linear interpolation; the channels double per scale, not into the last.
    S_i looks at patches of `patch` points per axis at every scale. The lifting P is a linear map
    of the fields and coordinates at each point, Q a linear map and a perceptron.

    The published form for Darcy flow on 85 x 85 points is width=64, patch=6, levels=4, tokens=4,
    basis=12, with 19,187,457 parameters. Good start on a small machine: width=16, patch=4; in
    three dimensions patch=2.

    Input [b, in_channels, *space], output [b, out_channels, *space]. Where we differ from the
    published code:
    - An axis must have a multiple of patch * 2^levels points. The code is given a padding that
      makes it so; here `GridFit` does on any grid: zeros beyond the upper side, of the size that
      the published settings have, or interpolation if the axis is periodic.
    - On a periodic axis convolutions and interpolation go round and there is no coordinate, so that
      the model is equivariant to shifts by patch * 2^levels points. Coordinates are those of the
      points, scaled to [0, 1].

    Kernels and patches count points, so a grid much finer than that of the training data is
    another problem; errors grow with the ratio. Batch normalisation makes the samples of a batch
    depend on each other in training, not in evaluation.
    """

    card = Card("Wu et al. 2023, arXiv:2301.12664")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int,
        *,
        grid: Grid,
        width: int = 64,
        patch: int | Sequence[int] = 6,
        levels: int = 4,
        tokens: int = 4,
        basis: int = 12,
    ):
        super().__init__()
        patch = (patch,) * ndim if isinstance(patch, int) else tuple(patch)
        if grid.ndim != ndim or len(patch) != ndim:
            raise ValueError(
                f"LSM: ndim={ndim}, but the grid has {grid.ndim} axes and patch={patch}."
            )
        if min(*patch, levels, tokens, basis, width) < 1:
            raise ValueError(
                f"LSM: width={width}, patch={patch}, levels={levels}, tokens={tokens} and "
                f"basis={basis} must be at least 1."
            )
        self.grid, self.in_channels, self.patch, self.levels = grid, in_channels, patch, levels
        self.periodic = tuple(axis.is_periodic for axis in grid.axes)
        widths = [width * 2 ** min(i, levels - 1) for i in range(levels + 1)]
        self.lifting = nn.Linear(in_channels + ndim - sum(self.periodic), width)
        self.encoders = nn.ModuleList(
            DoubleConv(widths[max(i - 1, 0)], w, w, self.periodic) for i, w in enumerate(widths)
        )
        self.blocks = nn.ModuleList(NeuralSpectralBlock(w, patch, tokens, basis) for w in widths)
        self.decoders = nn.ModuleList(
            DoubleConv(2 * w, w, widths[max(i - 1, 0)], self.periodic)
            for i, w in enumerate(widths[:-1])
        )
        self.mixing = nn.Linear(width, width)
        self.projection = nn.Sequential(
            nn.Linear(width, 128), nn.GELU(), nn.Linear(128, out_channels)
        )

    def forward(self, a: Tensor) -> Tensor:
        if a.ndim != 2 + self.grid.ndim or a.shape[1] != self.in_channels:
            raise ValueError(
                f"LSM: expected [batch, {self.in_channels} channels, {self.grid.ndim} axes of "
                f"points], got shape {tuple(a.shape)}."
            )
        grid = self.grid.resized(a.shape[2:])
        units = [p * 2**self.levels for p in self.patch]
        fit = GridFit(grid, [-(-n // p) * p for n, p in zip(grid.shape, units, strict=True)])
        walls = tuple(axis for axis in grid.axes if not axis.is_periodic)
        v = with_coordinates(a.movedim((0, 1), (-2, -1)), grid, walls)  # [*space, b, c]
        v = fit.extend(self.lifting(v).movedim((-2, -1), (0, 1)))
        scales = []
        for i, encoder in enumerate(self.encoders):
            v = encoder(v if i == 0 else POOL[self.grid.ndim - 1](v, 2))
            scales.append(self.blocks[i](v))
        v = scales.pop()
        for decoder in reversed(self.decoders):
            v = decoder(torch.cat((scales.pop(), _doubled(v, self.periodic)), dim=1))
        v = fit.restrict(_pointwise(self.mixing, v))
        return _pointwise(self.projection, v).contiguous()


class DoubleConv(nn.Sequential):
    """Two 3-point convolutions, each with batch normalisation and ReLU."""

    def __init__(self, ins: int, middle: int, outs: int, periodic: Sequence[bool]):
        norm = NORM[len(periodic) - 1]
        super().__init__(
            SidedConv(ins, middle, 3, periodic, bias=False),
            norm(middle),
            nn.ReLU(),
            SidedConv(middle, outs, 3, periodic, bias=False),
            norm(outs),
            nn.ReLU(),
        )


def _pointwise(layer: nn.Module, v: Tensor) -> Tensor:
    """A layer of the channels at each point of a field [b, c, *space]."""
    return layer(v.movedim(1, -1)).movedim(-1, 1)


def _doubled(v: Tensor, periodic: Sequence[bool]) -> Tensor:
    """Linear interpolation at twice as many points. Pooling leaves values in the middle of two
    points: round a periodic axis they are taken for that; on any other the first and the last stay
    where they are, as published (align_corners).
    """
    size = [n if p else 2 * n for n, p in zip(v.shape[2:], periodic, strict=True)]
    v = interpolate(v, size, mode=LINEAR[len(periodic) - 1], align_corners=True)
    for dim, round_ in enumerate(periodic, start=2):
        if round_:
            sides = (0.75 * v + 0.25 * v.roll(shift, dim) for shift in (1, -1))
            v = torch.stack(tuple(sides), dim + 1).flatten(dim, dim + 1)
    return v
