from solvers.advection import Advection, FiniteVolumeAdvection
from solvers.burgers import Burgers
from solvers.chebyshev import Chebyshev
from solvers.chebyshev_poisson import ChebyshevPoisson
from solvers.collocation import Collocation, End
from solvers.composed_states import Affine, AtRest, GasState, Stacked
from solvers.compressible import CompressibleNavierStokes
from solvers.darcy import Darcy
from solvers.distributions import LogUniform, Uniform
from solvers.embedded import EmbeddedPoisson
from solvers.euler import Euler
from solvers.evolution import Evolution, Unstable, frames, rollout
from solvers.exponential import Exponential
from solvers.fgmres import fgmres
from solvers.finite_volume import ConservationLaw, Numerics
from solvers.fitzhugh_nagumo import FitzHughNagumo
from solvers.fourier import Fourier
from solvers.gaussian_source import GaussianSource
from solvers.grid import Axis, Grid
from solvers.heat import Heat, HeatWithCirclingSource
from solvers.heated_plate import HeatedPlate
from solvers.helmholtz import Helmholtz
from solvers.imex import Imex
from solvers.implicit import LinearSystem
from solvers.initial_conditions import Blobs, CellNoise, DamBreak, RandomSines, TruncatedFourier
from solvers.korteweg_de_vries import KortewegDeVries
from solvers.krylov import REASONS, Info, NotConverged, conjugate_gradients
from solvers.kuramoto_sivashinsky import KuramotoSivashinsky
from solvers.leapfrog_wave import LeapfrogWave
from solvers.masked_domain import Cell, Inclusions, MaskedDomain
from solvers.minres import minres
from solvers.moving_sources import CircularPath, LinearPath, MovingGaussians
from solvers.multigrid import Multigrid
from solvers.navier_stokes import DiagonalForcing, Kolmogorov, NavierStokes
from solvers.poisson import Poisson
from solvers.random_fields import GaussianRandomField, Lognormal, TrigonometricScales, TwoValued
from solvers.reaction_diffusion import AllenCahn, FisherKPP, GrayScott
from solvers.semilinear import SemiLinear
from solvers.shallow_water import ShallowWater
from solvers.spectral import Spectral
from solvers.stencil import Stencil, transmissibilities
from solvers.swift_hohenberg import SwiftHohenberg
from solvers.trigonometric import Trigonometric
from solvers.wave import Wave

__all__ = [
    "REASONS",
    "Advection",
    "Affine",
    "AllenCahn",
    "AtRest",
    "Axis",
    "Blobs",
    "Burgers",
    "Cell",
    "CellNoise",
    "Chebyshev",
    "ChebyshevPoisson",
    "CircularPath",
    "Collocation",
    "CompressibleNavierStokes",
    "ConservationLaw",
    "DamBreak",
    "Darcy",
    "DiagonalForcing",
    "EmbeddedPoisson",
    "End",
    "Euler",
    "Evolution",
    "Exponential",
    "FiniteVolumeAdvection",
    "FisherKPP",
    "FitzHughNagumo",
    "Fourier",
    "GasState",
    "GaussianRandomField",
    "GaussianSource",
    "GrayScott",
    "Grid",
    "Heat",
    "HeatWithCirclingSource",
    "HeatedPlate",
    "Helmholtz",
    "Imex",
    "Inclusions",
    "Info",
    "Kolmogorov",
    "KortewegDeVries",
    "KuramotoSivashinsky",
    "LeapfrogWave",
    "LinearPath",
    "LinearSystem",
    "LogUniform",
    "Lognormal",
    "MaskedDomain",
    "MovingGaussians",
    "Multigrid",
    "NavierStokes",
    "NotConverged",
    "Numerics",
    "Poisson",
    "RandomSines",
    "SemiLinear",
    "ShallowWater",
    "Spectral",
    "Stacked",
    "Stencil",
    "SwiftHohenberg",
    "Trigonometric",
    "TrigonometricScales",
    "TruncatedFourier",
    "TwoValued",
    "Uniform",
    "Unstable",
    "Wave",
    "conjugate_gradients",
    "fgmres",
    "frames",
    "minres",
    "rollout",
    "transmissibilities",
]
