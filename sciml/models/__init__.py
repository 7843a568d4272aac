"""The catalogue of models, each built as Model(in_channels, out_channels, ndim, *, grid, ...)."""

from sciml.models.build import build_model, parameter_count, prepare_model
from sciml.models.card import Card
from sciml.models.deeponet import DeepONet
from sciml.models.fno import FNO
from sciml.models.fno_original import FNOOriginal
from sciml.models.fully_connected import FullyConnected
from sciml.models.lsm import LSM
from sciml.models.message_passing import MessagePassing
from sciml.models.mg_tfno import MGTFNO
from sciml.models.mgno import MgNO
from sciml.models.mionet import MIONet
from sciml.models.multionet import MultiONet
from sciml.models.neuralop import Neuralop
from sciml.models.pod_deeponet import PODDeepONet
from sciml.models.scot import ScOT
from sciml.models.st_fno import STFNO
from sciml.models.surrogate import Surrogate
from sciml.models.tfno import TFNO
from sciml.models.unet import UNet
from sciml.models.uno import UNO

__all__ = [
    "Card",
    "DeepONet",
    "FNO",
    "FNOOriginal",
    "FullyConnected",
    "LSM",
    "MGTFNO",
    "MIONet",
    "MessagePassing",
    "MgNO",
    "MultiONet",
    "Neuralop",
    "PODDeepONet",
    "STFNO",
    "ScOT",
    "Surrogate",
    "TFNO",
    "UNO",
    "UNet",
    "build_model",
    "parameter_count",
    "prepare_model",
]
