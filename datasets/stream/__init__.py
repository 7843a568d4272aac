"""Solver output that streams into training while it is computed."""

from datasets.stream.batch_reservoir import BatchReservoir
from datasets.stream.breed import Breed
from datasets.stream.faults import Faults
from datasets.stream.fifo import Fifo
from datasets.stream.firo import Firo
from datasets.stream.gaussian_process import GaussianProcess
from datasets.stream.history import History
from datasets.stream.history_stored import HistoryStored
from datasets.stream.inproc import Inproc
from datasets.stream.local import Local
from datasets.stream.online import Online
from datasets.stream.pairs import Pairs
from datasets.stream.program import Program
from datasets.stream.python_solver import PythonSolver
from datasets.stream.quota import Quota
from datasets.stream.ray_engine import Ray
from datasets.stream.recorded import Recorded
from datasets.stream.reservoir import Reservoir
from datasets.stream.sampler import AsDrawn
from datasets.stream.simulation_recipe import SimulationRecipe
from datasets.stream.sobol import Sobol
from datasets.stream.submitit_engine import Submitit

__all__ = [
    "AsDrawn",
    "BatchReservoir",
    "Breed",
    "Faults",
    "Fifo",
    "Firo",
    "GaussianProcess",
    "History",
    "HistoryStored",
    "Inproc",
    "Local",
    "Online",
    "Pairs",
    "Program",
    "PythonSolver",
    "Quota",
    "Ray",
    "Recorded",
    "Reservoir",
    "SimulationRecipe",
    "Sobol",
    "Submitit",
]
