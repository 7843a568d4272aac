"""scOT, the scalable operator transformer, in one, two and three dimensions."""

from collections.abc import Sequence
from itertools import count

from torch import Tensor, nn

from datasets.schema import Frames
from sciml.layers import (
    ConditionalLayerNorm,
    ConvNeXtBlock,
    GridFit,
    PatchMerging,
    PatchUnmerging,
    PositionBias,
    SidedConv,
    SwinBlock,
    largest_window,
)
from sciml.models.card import Card
from solvers.grid import Grid

CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class ScOT(nn.Module):
    """Scalable operator transformer, the architecture of Poseidon [Herde et al. 2024, NeurIPS,
    arXiv:2405.19101]: a U-shaped Swin V2 whose norms depend on the lead time t.

        x_0 = N_t E a,    y_i = S_i x_i,    x_{i+1} = merge(x_i + y_i)               down
        z_i = S'_i w_i,   w_{i-1} = unmerge(w_i + z_i) + C_{i-1}(x_{i-1} + y_{i-1})    up

    for the levels i = 0 .. L - 1, with w_{L-1} = y_{L-1} and z_0 recovered to the field. E takes
    patches of `patch` points per axis to tokens with `width` channels, doubled at each merging.
    S_i and S'_i are `depths[i]` blocks x <- x + N_t A x, x <- x + N_t M x, with a perceptron M and
    attention A in windows of `window` tokens per axis, shifted by half a window in every second
    block; it has `heads` heads at first and twice as many at each level. C_i are `skips` ConvNeXt
    blocks. The recovery is a transposed convolution and one of 5 points. Every norm N_t has scale
    and shift affine in t: the constant input channel `frames.lead` if there is one, which is no
    field then, or else 1.

    Input [b, in_channels, *space], output [b, out_channels, *space]. The published sizes, on 128 x
    128 points with patch=4, window=16, heads=3, skips=2, are T: width=48 and depths 4, 4, 4, 4; B:
    width=96, L: width=192 with depths 8, 8, 8, 8. The pre-trained weights cannot be loaded.

    Written from the paper and its published settings. Where we differ from them:
    - Any grid. The published model resamples a field to the grid of its training by its Fourier
      transform; `GridFit` enlarges it, by zeros, or by interpolation if the axis is periodic, to
      the next that patches and levels divide and that has windows of between half the size and
      the whole. Patches and windows count points, so a grid much finer than that of the training
      data is another problem.
    - Windows close round a periodic axis and convolutions go round it. There a shift by
      patch * 2^(L - 1) * window points is a symmetry. At other sides windows end and
      convolutions meet zeros.
    - The position bias of a smaller window is that of the same distances in a whole one.
    """

    card = Card("Herde et al. 2024, arXiv:2405.19101")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int,
        *,
        grid: Grid,
        frames: Frames | None = None,
        width: int = 48,
        depths: Sequence[int] = (4, 4, 4, 4),
        heads: int = 3,
        window: int = 16,
        patch: int = 4,
        skips: int = 2,
    ):
        super().__init__()
        if grid.ndim != ndim:
            raise ValueError(f"ScOT: ndim={ndim}, but the grid has {grid.ndim} axes.")
        if not depths or min(*depths, heads, patch, width) < 1 or skips < 0 or window < 2:
            raise ValueError(
                f"ScOT: depths={tuple(depths)}, width={width}, heads={heads} and patch={patch} "
                f"must be at least 1 (depths one number or more), window={window} at least 2 and "
                f"skips={skips} not negative."
            )
        if width % heads:
            raise ValueError(f"ScOT: width={width} must be a multiple of heads={heads}.")
        self.grid, self.in_channels = grid, in_channels
        self.lead = None if frames is None else frames.lead
        self.fields = [c for c in range(in_channels) if c != self.lead]
        self.patch, self.window, self.levels = patch, window, len(depths)
        periodic = tuple(axis.is_periodic for axis in grid.axes)
        widths = [width * 2**i for i in range(self.levels)]
        self.embedding = CONV[ndim - 1](len(self.fields), width, patch, stride=patch)
        self.norm = ConditionalLayerNorm(width)
        self.encoder, self.decoder = (
            nn.ModuleList(
                Conditioned(
                    SwinBlock(w, heads * 2**i, window, window // 2 * (k % 2), periodic)
                    for k in range(depth)
                )
                for i, (w, depth) in enumerate(zip(widths, depths, strict=True))
            )
            for _ in range(2)
        )
        self.merging = nn.ModuleList(PatchMerging(w, ndim) for w in widths[:-1])
        self.unmerging = nn.ModuleList(PatchUnmerging(w, ndim) for w in widths[1:])
        self.skips = nn.ModuleList(
            Conditioned(ConvNeXtBlock(w, periodic) for _ in range(skips)) for w in widths[:-1]
        )
        self.recovery = TRANSPOSED[ndim - 1](width, out_channels, patch, stride=patch)
        self.mixing = SidedConv(out_channels, out_channels, 5, periodic, bias=False)
        self.apply(_initialise)

    def forward(self, a: Tensor) -> Tensor:
        if a.ndim != 2 + self.grid.ndim or a.shape[1] != self.in_channels:
            raise ValueError(
                f"ScOT: expected [batch, {self.in_channels} channels, {self.grid.ndim} axes of "
                f"points], got shape {tuple(a.shape)}."
            )
        t = a.new_ones(a.shape[0], 1) if self.lead is None else a[:, self.lead].flatten(1)[:, :1]
        fit = GridFit(self.grid.resized(a.shape[2:]), [self._divisible(n) for n in a.shape[2:]])
        x = self.embedding(fit.extend(a[:, self.fields]))
        x = self.norm(x.movedim(1, -1), t)
        across = []
        for stage, skip, merge in zip(self.encoder, self.skips, self.merging, strict=False):
            x = x + stage(x, t)
            across.append(skip(x, t))
            x = merge(x, t)
        x = self.encoder[-1](x, t)
        for stage, unmerge in zip(self.decoder[:0:-1], reversed(self.unmerging), strict=True):
            x = unmerge(x + stage(x, t), t) + across.pop()
        x = self.decoder[0](x, t).movedim(-1, 1)
        return fit.restrict(self.mixing(self.recovery(x))).contiguous()

    def _divisible(self, n: int) -> int:
        """The smallest size from n on at which every level has windows of at least half the
        size, or is one window.
        """
        unit = self.patch * 2 ** (self.levels - 1)
        for size in count(-(-n // unit) * unit, unit):
            tokens = [size // (self.patch * 2**i) for i in range(self.levels)]
            if all(2 * largest_window(m, self.window) >= min(m, self.window) for m in tokens):
                return size


class Conditioned(nn.ModuleList):
    """Blocks in a row, each told the lead time t."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        for block in self:
            x = block(x, t)
        return x


def _initialise(module: nn.Module) -> None:
    """Weights normal of deviation 0.02 and no constants, as published; norms, and the bias of
    attention, which without constants sits on the kink of its ReLU, by their own rule.
    """
    if isinstance(module, (nn.Linear, *CONV, *TRANSPOSED)):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, (ConditionalLayerNorm, PositionBias)):  # after their children
        module.reset_parameters()
