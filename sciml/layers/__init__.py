"""Building blocks of the models."""

from sciml.layers.boundary_conv import BoundaryConv, BoundaryConvTranspose
from sciml.layers.conditional_norm import ConditionalLayerNorm
from sciml.layers.convnext import ConvNeXtBlock
from sciml.layers.convolution_branch import ConvolutionBranch
from sciml.layers.cp_weight import CPWeight
from sciml.layers.dense_stack import DenseStack
from sciml.layers.factorized_weight import FactorizedWeight
from sciml.layers.fourier_basis import FourierBasis
from sciml.layers.fourier_block import FourierBlock
from sciml.layers.fourier_branch import FourierBranch
from sciml.layers.grid_fit import GridFit
from sciml.layers.jet_linear import JetLinear
from sciml.layers.joint_weights import JointWeights
from sciml.layers.multigrid_conv import MultigridConv
from sciml.layers.neural_spectral_block import NeuralSpectralBlock
from sciml.layers.patch_merging import PatchMerging, PatchUnmerging
from sciml.layers.patching import Patching
from sciml.layers.perceptron import Perceptron
from sciml.layers.perceptron_branch import PerceptronBranch
from sciml.layers.position_bias import PositionBias
from sciml.layers.resample import Resample
from sciml.layers.shared_rows import map_shared
from sciml.layers.sided_conv import SidedConv
from sciml.layers.spectral_conv import SpectralConv
from sciml.layers.spectral_weight import DenseWeight
from sciml.layers.swin_block import SwinBlock
from sciml.layers.tensor_train_weight import TensorTrainWeight
from sciml.layers.trunk import Trunk
from sciml.layers.tucker_weight import TuckerWeight
from sciml.layers.window_attention import WindowAttention, largest_window
from sciml.layers.windows import join_windows, split_windows

__all__ = [
    "BoundaryConv",
    "BoundaryConvTranspose",
    "CPWeight",
    "ConditionalLayerNorm",
    "ConvNeXtBlock",
    "ConvolutionBranch",
    "DenseStack",
    "DenseWeight",
    "FactorizedWeight",
    "FourierBasis",
    "FourierBlock",
    "FourierBranch",
    "GridFit",
    "JetLinear",
    "JointWeights",
    "MultigridConv",
    "NeuralSpectralBlock",
    "PatchMerging",
    "PatchUnmerging",
    "Patching",
    "Perceptron",
    "PerceptronBranch",
    "PositionBias",
    "Resample",
    "SidedConv",
    "SpectralConv",
    "SwinBlock",
    "TensorTrainWeight",
    "Trunk",
    "TuckerWeight",
    "WindowAttention",
    "join_windows",
    "largest_window",
    "map_shared",
    "split_windows",
]
