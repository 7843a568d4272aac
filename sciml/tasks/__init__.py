"""How a model is trained: Lightning modules and learning-rate schedules."""

from sciml.tasks.refiner import Refined, SpectralRefiner, StepDefect
from sciml.tasks.schedule import Constant, Cosine, OneCycle
from sciml.tasks.supervised import Supervised
from sciml.tasks.symmetry import SquareSymmetry

__all__ = [
    "Constant",
    "Cosine",
    "OneCycle",
    "Refined",
    "SpectralRefiner",
    "SquareSymmetry",
    "StepDefect",
    "Supervised",
]
