"""MgNO: a neural operator whose linear maps are multigrid cycles."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import gelu

from sciml.layers import MultigridConv
from sciml.layers.boundary_conv import CONV
from sciml.models.card import Card
from solvers.grid import Grid


class MgNO(nn.Module):
    """Multigrid neural operator [He, Liu & Xu 2024, ICLR, arXiv:2310.19809].

        v_0 = a,    v <- gelu( M v + W v + b )  for each of `depth` layers,    u = Q v

    M is a `MultigridConv`, a V-cycle with learnt stencils on len(`iterations`) levels; W and Q are
    linear maps at each point. There is no lifting: the first cycle takes the input channels to
    `width`. `iterations` are the smoothing steps (down, up) of each level, the finest first.

    Boundary conditions are those of the grid, axis by axis, as in `BoundaryConv`, at every level
    and in every transfer. On a periodic axis whose size is a multiple of 2^(levels - 1) the map is
    equivariant under shifts by that many points, and not by fewer, as always with strides.

    The published form for Darcy flow is the default of the constructor: 572,661 parameters for one
    field in two dimensions. It restricts f, not the residual (`restrict_residual`). Where we
    differ from the published code: grids of any size, where that needs multiples of 32;
    prolongations wrap around or are mirrored, where that pads with zeros whatever the boundary; a
    normaliser is no part of the network. Layer normalisation, wider coarse levels and kernels of
    other widths, as in its variants for other data, are not here.

    Input [b, in_channels, *space], output [b, out_channels, *space], on grids of any size. The
    stencils know points and not lengths, so that a network trained on one grid means something
    else on a finer one. Levels of a single point cost parameters and give a mean at best: have
    2^(levels - 1) <= points per axis.
    """

    card = Card("He, Liu & Xu 2024, arXiv:2310.19809")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int,
        *,
        grid: Grid,
        width: int = 24,
        depth: int = 4,
        iterations: Sequence[Sequence[int]] = ((1, 0), (1, 0), (1, 0), (1, 0), (1, 0), (2, 0)),
        bias: bool = False,
        restrict_residual: bool = False,
    ):
        super().__init__()
        if grid.ndim != ndim:
            raise ValueError(f"MgNO: ndim={ndim}, but the grid has {grid.ndim} axes.")
        if width < 1 or depth < 1:
            raise ValueError(f"MgNO: width={width} and depth={depth} must be at least 1.")
        _check(iterations)
        self.in_channels, self.ndim = in_channels, ndim
        channels = (in_channels, *[width] * (depth - 1))
        self.cycles = nn.ModuleList(
            MultigridConv(
                c, width, grid, iterations, bias=bias, restrict_residual=restrict_residual
            )
            for c in channels
        )
        self.skips = nn.ModuleList(CONV[ndim](c, width, 1) for c in channels)
        self.head = CONV[ndim](width, out_channels, 1, bias=False)

    def forward(self, a: Tensor) -> Tensor:
        if a.ndim != 2 + self.ndim or a.shape[1] != self.in_channels:
            raise ValueError(
                f"MgNO: expected [batch, {self.in_channels} channels, {self.ndim} axes of points], "
                f"got shape {tuple(a.shape)}."
            )
        v = a
        for cycle, skip in zip(self.cycles, self.skips, strict=True):
            v = gelu(cycle(v) + skip(v))
        return self.head(v)


def _check(iterations: Sequence[Sequence[int]]) -> None:
    pairs = [tuple(pair) for pair in iterations]
    if not pairs or any(len(pair) != 2 or min(pair) < 0 for pair in pairs):
        raise ValueError(
            f"MgNO: iterations={pairs} must be one pair (steps down, steps up) for each level, "
            "the finest first."
        )
    if pairs[0][0] < 1 or pairs[-1][1] > 0:
        raise ValueError(
            f"MgNO: iterations={pairs} must have a step down at the first level and none up at "
            "the last, where the cycle turns."
        )
