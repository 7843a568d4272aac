"""The catalogue of models, each built as Model(in_channels, out_channels, ndim, *, grid, ...)."""

from sciml.models.build import build_model, prepare_model
from sciml.models.card import Card
from sciml.models.fno import FNO
from sciml.models.fno_original import FNOOriginal
from sciml.models.neuralop import Neuralop
from sciml.models.surrogate import Surrogate

__all__ = ["FNO", "Card", "FNOOriginal", "Neuralop", "Surrogate", "build_model", "prepare_model"]
