"""The catalogue of models, each built as Model(in_channels, out_channels, ndim, *, grid, ...)."""

from sciml.models.build import build_model, prepare_model
from sciml.models.card import Card
from sciml.models.fno import FNO
from sciml.models.message_passing import MessagePassing
from sciml.models.neuralop import Neuralop
from sciml.models.st_fno import STFNO
from sciml.models.surrogate import Surrogate

__all__ = [
    "FNO",
    "STFNO",
    "Card",
    "MessagePassing",
    "Neuralop",
    "Surrogate",
    "build_model",
    "prepare_model",
]
