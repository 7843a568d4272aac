"""Building blocks of the models."""

from sciml.layers.boundary_conv import BoundaryConv, BoundaryConvTranspose
from sciml.layers.fourier_basis import FourierBasis
from sciml.layers.multigrid_conv import MultigridConv
from sciml.layers.resample import Resample
from sciml.layers.spectral_conv import SpectralConv
from sciml.layers.spectral_weight import DenseWeight

__all__ = [
    "BoundaryConv",
    "BoundaryConvTranspose",
    "DenseWeight",
    "FourierBasis",
    "MultigridConv",
    "Resample",
    "SpectralConv",
]
