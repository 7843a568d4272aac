from solvers.burgers import Burgers
from solvers.chebyshev import Chebyshev
from solvers.chebyshev_poisson import ChebyshevPoisson
from solvers.collocation import Collocation, End
from solvers.darcy import Darcy
from solvers.euler import Euler
from solvers.evolution import Evolution, Unstable, frames, rollout
from solvers.exponential import Exponential
from solvers.fgmres import fgmres
from solvers.finite_volume import ConservationLaw, Numerics
from solvers.fourier import Fourier
from solvers.grid import Axis, Grid
from solvers.helmholtz import Helmholtz
from solvers.imex import Imex
from solvers.implicit import LinearSystem
from solvers.korteweg_de_vries import KortewegDeVries
from solvers.krylov import REASONS, Info, NotConverged, conjugate_gradients
from solvers.kuramoto_sivashinsky import KuramotoSivashinsky
from solvers.minres import minres
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
    "Chebyshev",
    "ChebyshevPoisson",
    "Collocation",
    "ConservationLaw",
    "Darcy",
    "DiagonalForcing",
    "End",
    "Euler",
    "Evolution",
    "Exponential",
    "FisherKPP",
    "Fourier",
    "GaussianRandomField",
    "GrayScott",
    "Grid",
    "Helmholtz",
    "Imex",
    "Info",
    "Kolmogorov",
    "KortewegDeVries",
    "KuramotoSivashinsky",
    "LinearSystem",
    "Lognormal",
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
    "fgmres",
    "frames",
    "minres",
    "rollout",
    "transmissibilities",
]
