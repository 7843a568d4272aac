"""The catalogue of models, each built as Model(in_channels, out_channels, ndim, *, grid, ...)."""

from sciml.models.build import build_model, prepare_model
from sciml.models.card import Card
from sciml.models.deeponet import DeepONet
from sciml.models.fno import FNO
from sciml.models.mionet import MIONet
from sciml.models.multionet import MultiONet
from sciml.models.neuralop import Neuralop
from sciml.models.pod_deeponet import PODDeepONet
from sciml.models.surrogate import Surrogate

__all__ = [
    "FNO",
    "Card",
    "DeepONet",
    "MIONet",
    "MultiONet",
    "Neuralop",
    "PODDeepONet",
    "Surrogate",
    "build_model",
    "prepare_model",
]
