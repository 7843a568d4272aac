"""Building blocks of the models."""

from sciml.layers.cp_weight import CPWeight
from sciml.layers.factorized_weight import FactorizedWeight
from sciml.layers.fourier_basis import FourierBasis
from sciml.layers.joint_weights import JointWeights
from sciml.layers.patching import Patching
from sciml.layers.shared_rows import map_shared
from sciml.layers.spectral_conv import SpectralConv
from sciml.layers.spectral_weight import DenseWeight
from sciml.layers.tensor_train_weight import TensorTrainWeight
from sciml.layers.tucker_weight import TuckerWeight

__all__ = [
    "CPWeight",
    "DenseWeight",
    "FactorizedWeight",
    "FourierBasis",
    "JointWeights",
    "Patching",
    "SpectralConv",
    "TensorTrainWeight",
    "TuckerWeight",
    "map_shared",
]
