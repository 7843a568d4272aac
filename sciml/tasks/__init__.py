"""How a model is trained: Lightning modules and learning-rate schedules."""

from sciml.tasks.schedule import Constant, Cosine, OneCycle
from sciml.tasks.supervised import Supervised
from sciml.tasks.symmetry import SquareSymmetry

__all__ = ["Constant", "Cosine", "OneCycle", "SquareSymmetry", "Supervised"]
