from solvers.darcy import Darcy
from solvers.grid import Axis, Grid
from solvers.implicit import Implicit
from solvers.krylov import REASONS, Info, NotConverged, conjugate_gradients
from solvers.multigrid import Multigrid
from solvers.random_fields import GaussianRandomField, Lognormal, TwoValued
from solvers.stencil import Stencil, transmissibilities

__all__ = [
    "REASONS",
    "Axis",
    "Darcy",
    "GaussianRandomField",
    "Grid",
    "Implicit",
    "Info",
    "Lognormal",
    "Multigrid",
    "NotConverged",
    "Stencil",
    "TwoValued",
    "conjugate_gradients",
    "transmissibilities",
]
