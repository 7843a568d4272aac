"""Building blocks of the models."""

from sciml.layers.boundary_conv import BoundaryConv, BoundaryConvTranspose
from sciml.layers.convolution_branch import ConvolutionBranch
from sciml.layers.cp_weight import CPWeight
from sciml.layers.dense_stack import DenseStack
from sciml.layers.factorized_weight import FactorizedWeight
from sciml.layers.fourier_basis import FourierBasis
from sciml.layers.fourier_branch import FourierBranch
from sciml.layers.joint_weights import JointWeights
from sciml.layers.multigrid_conv import MultigridConv
from sciml.layers.patching import Patching
from sciml.layers.perceptron_branch import PerceptronBranch
from sciml.layers.resample import Resample
from sciml.layers.shared_rows import map_shared
from sciml.layers.spectral_conv import SpectralConv
from sciml.layers.spectral_weight import DenseWeight
from sciml.layers.tensor_train_weight import TensorTrainWeight
from sciml.layers.trunk import Trunk
from sciml.layers.tucker_weight import TuckerWeight

__all__ = [
    "BoundaryConv",
    "BoundaryConvTranspose",
    "CPWeight",
    "ConvolutionBranch",
    "DenseStack",
    "DenseWeight",
    "FactorizedWeight",
    "FourierBasis",
    "FourierBranch",
    "JointWeights",
    "MultigridConv",
    "Patching",
    "PerceptronBranch",
    "Resample",
    "SpectralConv",
    "TensorTrainWeight",
    "Trunk",
    "TuckerWeight",
    "map_shared",
]
