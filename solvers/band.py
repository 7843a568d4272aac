"""The part of a spectrum that takes part where products are freed of aliases."""

import torch
from torch import Tensor

from solvers.fourier import Fourier


class Band:
    """`Fourier` for the wavenumbers of the last axis below `fraction` of the highest.

    Spectra [..., *modes] are those of `fourier` without the others, which a nonlinear term that
    is freed of aliases by `Fourier.kept(fraction)` neither sees nor changes: a third or a half of
    all work on spectra falls away. The other axes keep all their modes, and symbols are those of
    `fourier`, cut off alike.
    """

    def __init__(self, fourier: Fourier, fraction: float):
        self.fourier, self.grid, self.ndim = fourier, fourier.grid, fourier.ndim
        self.size = int(fourier.kept(fraction).reshape(-1, fourier.modes[-1])[0].sum())
        self.modes = (*fourier.modes[:-1], self.size)
        self._others = tuple(range(-self.ndim, -1))

    def transform(self, u: Tensor) -> Tensor:
        """Spectrum [..., *modes] of a real field [..., *space]."""
        v = torch.fft.rfft(u)[..., : self.size]
        return torch.fft.fftn(v, dim=self._others) if self._others else v

    def inverse(self, v: Tensor) -> Tensor:
        """Real field [..., *space] with the spectrum v [..., *modes]."""
        if self._others:
            v = torch.fft.ifftn(v, dim=self._others)
        return torch.fft.irfft(self.padded(v), n=self.grid.shape[-1])

    def split(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Inside and outside of the band of a whole spectrum or symbol."""
        return v[..., : self.size].contiguous(), v[..., self.size :]

    def padded(self, v: Tensor) -> Tensor:
        """A whole spectrum that is zero outside of the band."""
        whole = v.new_zeros(*v.shape[:-1], self.fourier.modes[-1])
        whole[..., : self.size] = v
        return whole

    def derivative(self, axis: int, order: int = 1) -> Tensor:
        return self._cut(self.fourier.derivative(axis, order))

    @property
    def laplacian(self) -> Tensor:
        return self._cut(self.fourier.laplacian)

    @property
    def inverse_laplacian(self) -> Tensor:
        return self._cut(self.fourier.inverse_laplacian)

    def kept(self, fraction: float = 2 / 3, *, circular: bool = False) -> Tensor:
        return self._cut(self.fourier.kept(fraction, circular=circular))

    def _cut(self, symbol: Tensor) -> Tensor:
        """A symbol that is constant along the last axis has one entry there and keeps it."""
        return symbol[..., : self.size]
