"""Building blocks of the models."""

from sciml.layers.boundary_conv import BoundaryConv, BoundaryConvTranspose
from sciml.layers.cp_weight import CPWeight
from sciml.layers.factorized_weight import FactorizedWeight
from sciml.layers.fourier_basis import FourierBasis
from sciml.layers.joint_weights import JointWeights
from sciml.layers.multigrid_conv import MultigridConv
from sciml.layers.patching import Patching
from sciml.layers.resample import Resample
from sciml.layers.shared_rows import map_shared
from sciml.layers.spectral_conv import SpectralConv
from sciml.layers.spectral_weight import DenseWeight
from sciml.layers.tensor_train_weight import TensorTrainWeight
from sciml.layers.tucker_weight import TuckerWeight

__all__ = [
    "BoundaryConv",
    "BoundaryConvTranspose",
    "CPWeight",
    "DenseWeight",
    "FactorizedWeight",
    "FourierBasis",
    "JointWeights",
    "MultigridConv",
    "Patching",
    "Resample",
    "SpectralConv",
    "TensorTrainWeight",
    "TuckerWeight",
    "map_shared",
]
