"""The catalogue of models, each built as Model(in_channels, out_channels, ndim, *, grid, ...)."""

from sciml.models.build import build_model, prepare_model
from sciml.models.card import Card
from sciml.models.fno import FNO
from sciml.models.mg_tfno import MGTFNO
from sciml.models.neuralop import Neuralop
from sciml.models.surrogate import Surrogate
from sciml.models.tfno import TFNO

__all__ = [
    "FNO",
    "MGTFNO",
    "TFNO",
    "Card",
    "Neuralop",
    "Surrogate",
    "build_model",
    "prepare_model",
]
