"""The catalogue of models, each built as Model(in_channels, out_channels, ndim, *, grid, ...)."""

from sciml.models.fno import FNO
from sciml.models.neuralop import Neuralop

__all__ = ["FNO", "Neuralop"]
