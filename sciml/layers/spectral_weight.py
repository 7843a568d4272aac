"""One complex matrix for each Fourier mode, all of them stored."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DenseWeight(nn.Module):
    """R[k] [in, out] for each of the modes k, [*modes, in, out] complex numbers.

    What a `SpectralConv` needs of its weight is `dense`, `dtype`, and `contract`, by default the
    product with `dense`. `spectrum` is the number of kept modes of each axis (see `FourierBasis`).
    Stored as real numbers [*modes, in, out, 2], because `Module.double` and optimisers with fused
    kernels pass complex parameters by. Entries are complex normal of variance 2 / (in + out) at
    first.
    """

    def __init__(self, spectrum: Sequence[int], in_channels: int, out_channels: int):
        super().__init__()
        std = (1 / (in_channels + out_channels)) ** 0.5  # of the real and the imaginary part
        self.entries = nn.Parameter(std * torch.randn(*spectrum, in_channels, out_channels, 2))

    @property
    def dtype(self) -> torch.dtype:
        """Of the fields, real."""
        return self.entries.dtype

    def dense(self) -> Tensor:
        """R as a complex tensor [*modes, in, out]."""
        return torch.view_as_complex(self.entries)

    def contract(self, spectrum: Tensor) -> Tensor:
        """sum_i spectrum[k, b, i] R[k, i, o] of a complex [*modes, b, in]: [*modes, b, out]."""
        return torch.matmul(spectrum, self.dense())
