"""Building blocks of the models."""

from sciml.layers.fourier_basis import FourierBasis
from sciml.layers.fourier_block import FourierBlock
from sciml.layers.perceptron import Perceptron
from sciml.layers.spectral_conv import SpectralConv
from sciml.layers.spectral_weight import DenseWeight

__all__ = ["DenseWeight", "FourierBasis", "FourierBlock", "Perceptron", "SpectralConv"]
