"""Solver output that streams into training while it is computed."""

from datasets.stream.program import Program
from datasets.stream.python_solver import PythonSolver
from datasets.stream.simulation_recipe import SimulationRecipe

__all__ = ["Program", "PythonSolver", "SimulationRecipe"]
