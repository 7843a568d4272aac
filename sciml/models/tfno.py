"""Fourier neural operator whose spectral weights are factorised tensors."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from sciml.layers import CPWeight, JointWeights, TensorTrainWeight, TuckerWeight
from sciml.models.card import Card
from sciml.models.fno import FNO
from solvers.grid import Grid

FACTORIZATIONS = {"tucker": TuckerWeight, "cp": CPWeight, "tensor_train": TensorTrainWeight}


class TFNO(nn.Module):
    """Tensorised Fourier neural operator [Kossaifi et al. 2023, TMLR 2024, arXiv:2310.00120].

    `FNO`, with the weight R of each spectral convolution, [*modes, width, width], as a Tucker, CP
    or tensor-train product (`TuckerWeight`, `CPWeight`, `TensorTrainWeight`). `rank` is its
    number of parameters as a fraction of those of R, or the ranks themselves in the order of the
    class. `joint` factorises the weights of all layers as one tensor [depth, *modes, width,
    width], the form of the paper; without it each layer has a tensor of its own, the form of
    neuraloperator 2.0.0, whose weights can be copied in. Lifting, skips and the rest are dense.

    Everything else, grids and sides included, is said of `FNO`. What is different from the
    library: CP has no separate scale for each rank, and the initial entries of R have the
    variance of a dense weight. The library's largest published form, Tucker with rank 0.1, width
    64 and 64 modes of both signs (here modes=32) in two dimensions, has 7.2 million parameters.
    Good start: tucker, rank=0.1, width=32, modes=12.
    """

    card = Card("Kossaifi et al. 2023, arXiv:2310.00120")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int,
        *,
        grid: Grid,
        width: int = 32,
        modes: int | Sequence[int] = 12,
        depth: int = 4,
        padding: float = 0.25,
        factorization: Literal["tucker", "cp", "tensor_train"] = "tucker",
        rank: float | Sequence[int] = 0.1,
        joint: bool = False,
    ):
        super().__init__()
        if factorization not in FACTORIZATIONS:
            raise ValueError(
                f"TFNO: factorization={factorization!r} is not one of {list(FACTORIZATIONS)}."
            )
        make = partial(FACTORIZATIONS[factorization], rank=rank)
        weight = JointWeights(make, depth) if joint else make
        self.operator = FNO(
            in_channels,
            out_channels,
            ndim,
            grid=grid,
            width=width,
            modes=modes,
            depth=depth,
            padding=padding,
            weight=weight,
        )
        self.tensor = weight.tensor if joint else None

    def forward(self, a: Tensor) -> Tensor:
        return self.operator(a)

    @torch.no_grad()
    def approximate(self, fno: FNO) -> None:
        """Take the weights of a trained FNO of the same width, modes, depth and channels: the
        spectral ones by their best factors (see `approximate` of the weights), the others as
        they are.
        """
        own, theirs = self.operator.state_dict(), fno.state_dict()
        dense = [block.convolution.weight.dense() for block in fno.blocks]
        rest = {k: v for k, v in theirs.items() if ".convolution.weight." not in k}
        fits = len(dense) == len(self.operator.blocks) and all(
            k in own and own[k].shape == v.shape for k, v in rest.items()
        )
        if not fits:
            raise ValueError(
                "TFNO.approximate: the FNO has other channels, width or depth than this model; "
                "build the TFNO with those of the FNO."
            )
        if self.tensor is not None:
            self.tensor.approximate(torch.stack(dense))
        else:
            for block, weight in zip(self.operator.blocks, dense, strict=True):
                block.convolution.weight.approximate(weight)
        self.operator.load_state_dict(rest, strict=False)
