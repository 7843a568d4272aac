"""Building blocks of the models."""

from sciml.layers.fourier_basis import FourierBasis
from sciml.layers.spectral_conv import SpectralConv

__all__ = ["FourierBasis", "SpectralConv"]
