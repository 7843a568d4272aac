"""The catalogue of models, each built as Model(in_channels, out_channels, ndim, *, grid, ...)."""

from sciml.models.build import build_model, prepare_model
from sciml.models.card import Card
from sciml.models.fno import FNO
from sciml.models.lsm import LSM
from sciml.models.neuralop import Neuralop
from sciml.models.scot import ScOT
from sciml.models.surrogate import Surrogate

__all__ = ["FNO", "LSM", "Card", "Neuralop", "ScOT", "Surrogate", "build_model", "prepare_model"]
