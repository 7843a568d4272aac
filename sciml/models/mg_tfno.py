"""Fourier neural operator on patches of the domain, with factorised weights."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from sciml.layers import Patching, map_shared
from sciml.models.card import Card
from sciml.models.tfno import TFNO
from solvers.grid import Grid


class MGTFNO(nn.Module):
    """Multi-grid tensorised Fourier neural operator [Kossaifi et al. 2023, arXiv:2310.00120].

        u = stitch( crop( T( patch(a), position ) ) )

    The domain is cut into 2^levels patches per axis, with `padding` of its length more on both
    sides; a patch is one sample of a `TFNO`, beside `levels` coarser views of what lies around it,
    each twice as wide as the last (see `Patching`), so that every patch sees the whole domain. All
    patches share the weights. The model is a map of fields like others: inputs are cut and
    outputs put together inside, and the loss is that of the whole field. With levels=0 there is
    one patch.

    What the sides decide: on periodic axes patches go on across them. Others give their position
    in the domain as a channel for each view, also of the points outside, and one channel says
    which are outside. A patch itself is taken as periodic; its padding keeps the error of that
    out of the result. `modes` count per patch, so that 8 at levels=1 resolve what 16 do in `FNO`.

    With `share_patches` the processes of `torch.distributed` divide the patches among them
    (`map_shared`), and with them the memory that training takes; they must all be given the same
    samples, so a sampler must not deal different ones to them. In a single process it changes
    nothing.

    What the code of neuraloperator 2.0.0 lacks and this has: 1 and 3 dimensions, grids that
    2^levels does not divide, sides that are not periodic, positions in the domain rather than in
    the patch, and factors that all layers share (`joint`). Where both work, the patches are equal.
    Good start: levels=1, padding=0.0625, width=24, modes=8.
    """

    card = Card("Kossaifi et al. 2023, arXiv:2310.00120")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int,
        *,
        grid: Grid,
        levels: int = 1,
        padding: float = 0.0625,
        width: int = 24,
        modes: int | Sequence[int] = 8,
        depth: int = 4,
        factorization: Literal["tucker", "cp", "tensor_train"] = "tucker",
        rank: float | Sequence[int] = 0.1,
        joint: bool = True,
        share_patches: bool = False,
    ):
        super().__init__()
        if grid.ndim != ndim:
            raise ValueError(f"MGTFNO: ndim={ndim}, but the grid has {grid.ndim} axes.")
        patching = Patching(grid, levels, padding)
        wanted = (modes,) * ndim if isinstance(modes, int) else tuple(modes)
        if any(2 * m > w for m, w in zip(wanted, patching.window, strict=False)):
            raise ValueError(
                f"MGTFNO: modes={wanted} needs patches of at least {tuple(2 * m for m in wanted)} "
                f"points, those of the grid {grid.shape} have {patching.window}; lower "
                "model.modes or model.levels, or raise model.padding or the resolution."
            )
        self.grid, self.levels, self.padding = grid, levels, padding
        self.in_channels, self.share_patches = in_channels, share_patches
        self.operator = TFNO(
            (levels + 1) * in_channels + patching.num_positions,
            out_channels,
            ndim,
            grid=Grid.box(patching.window, boundary="periodic", points="left"),
            width=width,
            modes=modes,
            depth=depth,
            factorization=factorization,
            rank=rank,
            joint=joint,
        )

    def forward(self, a: Tensor) -> Tensor:
        if a.ndim != 2 + self.grid.ndim or a.shape[1] != self.in_channels:
            raise ValueError(
                f"MGTFNO: expected [batch, {self.in_channels} channels, {self.grid.ndim} axes of "
                f"points], got shape {tuple(a.shape)}."
            )
        patching = Patching(self.grid.resized(a.shape[2:]), self.levels, self.padding)
        positions = patching.positions(a).repeat_interleave(len(a), dim=0)
        patches = torch.cat((patching.patch(a), positions), dim=1)
        operator = _Cropped(self.operator, patching)
        u = map_shared(operator, patches) if self.share_patches else operator(patches)
        return patching.stitch(u).contiguous()


class _Cropped(nn.Module):
    """The operator on patches, without their padding: what processes send to each other."""

    def __init__(self, operator: nn.Module, patching: Patching):
        super().__init__()
        self.operator, self.patching = operator, patching

    def forward(self, patches: Tensor) -> Tensor:
        return self.patching.crop(self.operator(patches))
