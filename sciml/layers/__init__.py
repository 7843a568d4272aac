"""Building blocks of the models."""

from sciml.layers.convolution_branch import ConvolutionBranch
from sciml.layers.dense_stack import DenseStack
from sciml.layers.fourier_basis import FourierBasis
from sciml.layers.fourier_branch import FourierBranch
from sciml.layers.perceptron_branch import PerceptronBranch
from sciml.layers.spectral_conv import SpectralConv
from sciml.layers.spectral_weight import DenseWeight
from sciml.layers.trunk import Trunk

__all__ = [
    "ConvolutionBranch",
    "DenseStack",
    "DenseWeight",
    "FourierBasis",
    "FourierBranch",
    "PerceptronBranch",
    "SpectralConv",
    "Trunk",
]
