from solvers.burgers import Burgers
from solvers.darcy import Darcy
from solvers.embedded import EmbeddedPoisson
from solvers.euler import Euler
from solvers.evolution import Evolution, Unstable, frames, rollout
from solvers.exponential import Exponential
from solvers.finite_volume import ConservationLaw, Numerics
from solvers.fourier import Fourier
from solvers.grid import Axis, Grid
from solvers.imex import Imex
from solvers.implicit import Implicit
from solvers.korteweg_de_vries import KortewegDeVries
from solvers.krylov import REASONS, Info, NotConverged, conjugate_gradients
from solvers.kuramoto_sivashinsky import KuramotoSivashinsky
from solvers.masked_domain import Cell, MaskedDomain
from solvers.multigrid import Multigrid
from solvers.navier_stokes import DiagonalForcing, Kolmogorov, NavierStokes
from solvers.poisson import Poisson
from solvers.random_fields import GaussianRandomField, Lognormal, TwoValued
from solvers.reaction_diffusion import AllenCahn, FisherKPP, GrayScott
from solvers.semilinear import SemiLinear
from solvers.shallow_water import ShallowWater
from solvers.stencil import Stencil, transmissibilities
from solvers.trigonometric import Trigonometric

__all__ = [
    "REASONS",
    "AllenCahn",
    "Axis",
    "Burgers",
    "Cell",
    "ConservationLaw",
    "Darcy",
    "DiagonalForcing",
    "EmbeddedPoisson",
    "Euler",
    "Evolution",
    "Exponential",
    "FisherKPP",
    "Fourier",
    "GaussianRandomField",
    "GrayScott",
    "Grid",
    "Imex",
    "Implicit",
    "Info",
    "Kolmogorov",
    "KortewegDeVries",
    "KuramotoSivashinsky",
    "Lognormal",
    "MaskedDomain",
    "Multigrid",
    "NavierStokes",
    "NotConverged",
    "Numerics",
    "Poisson",
    "SemiLinear",
    "ShallowWater",
    "Stencil",
    "Trigonometric",
    "TwoValued",
    "Unstable",
    "conjugate_gradients",
    "frames",
    "rollout",
    "transmissibilities",
]
