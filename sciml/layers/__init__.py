"""Building blocks of the models."""

from sciml.layers.conditional_norm import ConditionalLayerNorm
from sciml.layers.convnext import ConvNeXtBlock
from sciml.layers.fourier_basis import FourierBasis
from sciml.layers.grid_fit import GridFit
from sciml.layers.neural_spectral_block import NeuralSpectralBlock
from sciml.layers.patch_merging import PatchMerging, PatchUnmerging
from sciml.layers.position_bias import PositionBias
from sciml.layers.sided_conv import SidedConv
from sciml.layers.spectral_conv import SpectralConv
from sciml.layers.spectral_weight import DenseWeight
from sciml.layers.swin_block import SwinBlock
from sciml.layers.window_attention import WindowAttention, largest_window
from sciml.layers.windows import join_windows, split_windows

__all__ = [
    "ConditionalLayerNorm",
    "ConvNeXtBlock",
    "DenseWeight",
    "FourierBasis",
    "GridFit",
    "NeuralSpectralBlock",
    "PatchMerging",
    "PatchUnmerging",
    "PositionBias",
    "SidedConv",
    "SpectralConv",
    "SwinBlock",
    "WindowAttention",
    "join_windows",
    "largest_window",
    "split_windows",
]
