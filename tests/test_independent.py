"""Our solvers against codes that others wrote: SciPy, exponax (spectral), py-pde (differences).

What exponax 0.2 does differently, read in its source:
- the contour means of its exponential methods keep the real part only (etdrk/_etdrk_*.py, `.real`),
  right where L is real; where it is not, as for Korteweg-de Vries, the order falls to one;
- its masks keep |m| <= n / 3 - 1 (nonlin_fun/_base.py), ours |m| < n / 3: one mode more unless 6
  divides n; with the 1/2 rule unless 4 does;
- its stream function has Lap psi = w, so its vorticity is minus ours, its drag is a rate of growth,
  and its Kolmogorov forcing has no factor 2 pi / length (nonlin_fun/_vorticity_convection.py);
- its Kuramoto-Sivashinsky equation in integral form drops the mean, and its fourth derivative is
  u_xxxx + u_yyyy in two dimensions, without 2 u_xxyy (_spectral.py, build_laplace_operator);
- Allen-Cahn and Fisher-KPP have the linear reaction in L, so that the errors in time differ;
- Burgers is u u_x unless `conservative`, in two dimensions then div(u u) / 2, another equation.
"""

import math
from functools import partial

import numpy as np
import pytest
import scipy.fft
import scipy.integrate
import scipy.sparse
import scipy.sparse.linalg
import torch

from solvers import (
    AllenCahn,
    Burgers,
    Darcy,
    Euler,
    Exponential,
    FisherKPP,
    Fourier,
    GrayScott,
    Grid,
    Kolmogorov,
    KortewegDeVries,
    KuramotoSivashinsky,
    NavierStokes,
    Numerics,
    Poisson,
)
from solvers.korteweg_de_vries import soliton
from tests.helpers import periodic

pytestmark = pytest.mark.slow
TWO_PI = 2 * math.pi


@pytest.fixture(scope="module")
def exponax():
    """The library in double precision."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    return pytest.importorskip("exponax")


@pytest.fixture(scope="module")
def pde():
    return pytest.importorskip("pde")


def waves(grid, channels=1, amplitude=0.5):
    """A smooth field [1, channels, *space], the same on every grid of one domain."""
    generator = torch.Generator().manual_seed(3)
    x, u = grid.mesh(), torch.zeros(1, channels, *grid.shape, dtype=torch.float64)
    for c in range(channels):
        for _ in range(4):
            numbers = torch.randint(-2, 3, (grid.ndim,), generator=generator).tolist()
            phase = TWO_PI * torch.rand(1, generator=generator, dtype=torch.float64)
            for m, position, axis in zip(numbers, x, grid.axes, strict=True):
                phase = phase + TWO_PI * m * position / axis.length
            u[0, c] += amplitude * torch.sin(phase)
    return u


def start(equation, amplitude=0.5):
    """Suits the equation: Fisher's blows up from negative values."""
    u = waves(equation.grid, len(equation.fields), amplitude)
    return 0.5 + 0.2 * u if isinstance(equation, FisherKPP) else u


def line(n, length=TWO_PI):
    return periodic((n,), (length,))


def plane(n, length=TWO_PI):
    return periodic((n, n), (length, length))


# SciPy: the same right-hand side, or the same linear equations, by other methods.


def by_scipy(equation, u, method):
    def rhs(t, y):
        return equation.rhs(torch.from_numpy(y).view_as(u)).flatten().numpy()

    solution = scipy.integrate.solve_ivp(
        rhs, (0, equation.dt), u.flatten().numpy(), method=method, rtol=1e-10, atol=1e-11
    )
    return torch.from_numpy(np.ascontiguousarray(solution.y[:, -1])).view_as(u)


STEPPERS = {
    "burgers": lambda: Burgers(line(48), viscosity=0.1, dt=0.4, substeps=160),
    "burgers 2-D": lambda: Burgers(plane(12), viscosity=0.2, dt=0.4, substeps=160),
    "korteweg-de vries": lambda: KortewegDeVries(line(24), dt=0.1, substeps=400),
    "kuramoto-sivashinsky": lambda: KuramotoSivashinsky(line(32, 22.0), dt=2.0, substeps=160),
    "its 2-D form": lambda: KuramotoSivashinsky(plane(12, 22.0), dt=2.0, substeps=160),
    "allen-cahn": lambda: AllenCahn(plane(12), dt=1.0, substeps=160, diffusivity=0.1),
    "fisher": lambda: FisherKPP(line(48), dt=1.0, substeps=160, diffusivity=0.1),
    "gray-scott": lambda: GrayScott(plane(12), dt=1.0, substeps=160, diffusivities=(0.2, 0.1)),
    "kolmogorov": lambda: NavierStokes(
        plane(16), viscosity=0.1, drag=0.1, dt=0.5, substeps=160, forcing=Kolmogorov(2)
    ),
}


@pytest.mark.parametrize("method", ["DOP853", "Radau"])
@pytest.mark.parametrize("name", STEPPERS)
def test_steppers_against_scipy(name, method):
    equation = STEPPERS[name]()
    u = start(equation)
    assert (equation(u) - by_scipy(equation, u, method)).abs().max() < 2e-8


def test_euler_against_scipy():
    """A smooth wave by many small steps of the third-order method, and by DOP853."""
    grid = line(64)
    equation = Euler(grid, dt=0.05, numerics=Numerics(cfl=0.02))
    x = grid.axes[0].coordinates()
    w = torch.stack((1 + 0.2 * torch.sin(x), 0.1 * torch.cos(x), 1 + 0.1 * torch.sin(x)))[None]
    u = equation.to_conserved(w)
    # limiters have kinks, which bound the accuracy of both
    assert (equation(u) - by_scipy(equation, u, "DOP853")).abs().max() < 1e-5


def test_darcy_against_a_sparse_factorisation():
    """The five-point matrix assembled here, edge by edge, in single samples."""
    n = 40
    grid = Grid.box((n, n))
    a = torch.exp(waves(plane(n, 1.0), amplitude=0.8))
    u = Darcy(grid, tolerance=1e-12)(a)
    k = a[0, 0].numpy()
    matrix = scipy.sparse.lil_matrix((n * n, n * n))
    for i in range(n):
        for j in range(n):
            for p, q in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                row = i * n + j
                if 0 <= p < n and 0 <= q < n:
                    face = 2 / (1 / k[i, j] + 1 / k[p, q])
                    matrix[row, p * n + q] -= face * n**2
                else:
                    face = 2 * k[i, j]
                matrix[row, row] += face * n**2
    expected = scipy.sparse.linalg.splu(matrix.tocsc()).solve(np.ones(n * n)).reshape(n, n)
    assert np.abs(u[0, 0].numpy() - expected).max() < 1e-10 * np.abs(expected).max()


@pytest.mark.parametrize("kind, dst", [("dirichlet", scipy.fft.dstn), ("neumann", scipy.fft.dctn)])
def test_poisson_against_the_transforms_of_scipy(kind, dst):
    n = 24
    f = torch.randn(1, 1, n, n, dtype=torch.float64)
    f = f - f.mean()
    u = Poisson(Grid.box((n, n), boundary=kind))(f)
    numbers = np.arange(n) + (kind == "dirichlet")
    eigenvalues = (2 * n * np.sin(np.pi * numbers / (2 * n))) ** 2
    symbol = eigenvalues[:, None] + eigenvalues[None]
    v = dst(f[0, 0].numpy(), type=2)
    v = np.divide(v, symbol, out=np.zeros_like(v), where=symbol > 0)
    inverse = scipy.fft.idstn if kind == "dirichlet" else scipy.fft.idctn
    assert np.abs(u[0, 0].numpy() - inverse(v, type=2)).max() < 1e-13


# exponax: the same equations and methods, written for JAX.


def run_exponax(exponax, stepper, u, substeps):
    return torch.from_numpy(
        np.array(exponax.RepeatedStepper(stepper, substeps)(u[0].numpy()))
    ).unsqueeze(0)


SAME_METHOD = {
    "burgers": (
        lambda scheme: Burgers(line(96), viscosity=0.1, dt=1.0, substeps=20, scheme=scheme),
        lambda ex, **o: ex.stepper.Burgers(
            1, TWO_PI, 96, 0.05, diffusivity=0.1, conservative=True, **o
        ),
    ),
    "burgers, not conservative": (
        lambda scheme: Burgers(line(96), viscosity=0.1, dt=1.0, substeps=20, scheme=scheme),
        lambda ex, **o: ex.stepper.Burgers(1, TWO_PI, 96, 0.05, diffusivity=0.1, **o),
    ),
    "burgers 2-D": (
        lambda scheme: Burgers(plane(36), viscosity=0.1, dt=1.0, substeps=20, scheme=scheme),
        lambda ex, **o: ex.stepper.Burgers(2, TWO_PI, 36, 0.05, diffusivity=0.1, **o),
    ),
    "kuramoto-sivashinsky": (
        lambda scheme: KuramotoSivashinsky(line(96, 22.0), dt=2.0, substeps=20, scheme=scheme),
        lambda ex, **o: ex.stepper.KuramotoSivashinsky(1, 22.0, 96, 0.1, **o),
    ),
    "its derivative": (
        lambda scheme: KuramotoSivashinsky(
            line(96, 22.0), dt=2.0, substeps=20, conservative=True, scheme=scheme
        ),
        lambda ex, **o: ex.stepper.KuramotoSivashinskyConservative(1, 22.0, 96, 0.1, **o),
    ),
    "gray-scott": (
        lambda scheme: GrayScott(
            plane(24), dt=1.0, substeps=20, diffusivities=(0.2, 0.1), scheme=scheme
        ),
        lambda ex, **o: ex.stepper.reaction.GrayScott(
            2, TWO_PI, 24, 0.05, diffusivity_1=0.2, diffusivity_2=0.1, **o
        ),
    ),
}


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("name", SAME_METHOD)
def test_the_same_method_gives_the_same_numbers(exponax, name, order):
    make, theirs = SAME_METHOD[name]
    equation = make(partial(Exponential, order=order))
    u = start(equation)
    ours = equation(u)
    expected = run_exponax(exponax, theirs(exponax, order=order), u, equation.substeps)
    if name == "kuramoto-sivashinsky":  # it drops the mean of |grad u|^2
        ours, expected = ours - ours.mean(), expected - expected.mean()
    assert (ours - u).abs().max() > 1e-2
    assert (ours - expected).abs().max() < 1e-11


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("forced", [False, True])
def test_vorticity_has_the_other_sign(exponax, order, forced):
    forcing = Kolmogorov(3, -0.7) if forced else None
    equation = NavierStokes(
        plane(48),
        viscosity=0.02,
        drag=0.1,
        dt=1.0,
        substeps=20,
        forcing=forcing,
        scheme=partial(Exponential, order=order),
    )
    shared = {"diffusivity": 0.02, "drag": -0.1, "order": order}
    if forced:
        theirs = exponax.stepper.KolmogorovFlowVorticity(
            2, TWO_PI, 48, 0.05, injection_mode=3, injection_scale=0.7, **shared
        )
    else:
        theirs = exponax.stepper.NavierStokesVorticity(2, TWO_PI, 48, 0.05, **shared)
    w = waves(equation.grid)
    ours = equation(w)
    assert (ours + run_exponax(exponax, theirs, -w, 20)).abs().max() < 1e-11
    assert (ours - run_exponax(exponax, theirs, w, 20)).abs().max() > 1e-3  # the control


def test_masks_that_differ_by_a_mode_agree_where_the_grid_is_fine_enough(exponax):
    differences = []
    for n in (32, 64, 128):
        equation = Burgers(line(n), viscosity=0.1, dt=1.0, substeps=50)
        theirs = exponax.stepper.Burgers(
            1, TWO_PI, n, 0.02, diffusivity=0.1, conservative=True, order=4
        )
        u = waves(equation.grid)
        differences.append((equation(u) - run_exponax(exponax, theirs, u, 50)).abs().max())
    assert differences[0] > 1e-4
    assert differences[1] < 0.1 * differences[0]
    assert differences[2] < 1e-2 * differences[1]


REACTIONS = {
    "allen-cahn": (
        lambda n: AllenCahn(line(96), dt=1.0, substeps=n, diffusivity=0.1, rate=2.0),
        lambda ex, n: ex.stepper.reaction.AllenCahn(
            1,
            TWO_PI,
            96,
            1 / n,
            diffusivity=0.1,
            first_order_coefficient=2.0,
            third_order_coefficient=-2.0,
            order=4,
        ),
    ),
    "fisher": (
        lambda n: FisherKPP(line(96), dt=1.0, substeps=n, diffusivity=0.1, rate=2.0),
        lambda ex, n: ex.stepper.reaction.FisherKPP(
            1, TWO_PI, 96, 1 / n, diffusivity=0.1, reactivity=2.0, order=4
        ),
    ),
}


@pytest.mark.parametrize("name", REACTIONS)
def test_linear_reactions_in_either_part_agree_to_order_4(exponax, name):
    make, theirs = REACTIONS[name]
    differences = []
    for n in (10, 20, 40):
        equation = make(n)
        u = start(equation)
        difference = equation(u) - run_exponax(exponax, theirs(exponax, n), u, n)
        differences.append(float(difference.abs().max()))
    assert differences[-1] < 1e-6
    assert math.log2(differences[1] / differences[2]) == pytest.approx(4, abs=0.3)


def test_korteweg_de_vries_keeps_its_order_where_real_parts_lose_it(exponax):
    """Both against the soliton's continuation by steps much shorter than either."""
    n, length = 96, 40.0
    grid = line(n, length)
    u = soliton(grid.axes[0].coordinates(), 0.0, 1.0, 15.0, length)[None, None]
    finest = KortewegDeVries(grid, dt=1.0, substeps=1280)(u)
    ours, theirs = [], []
    for steps in (20, 40, 80):
        ours.append(float((KortewegDeVries(grid, dt=1.0, substeps=steps)(u) - finest).abs().max()))
        stepper = exponax.stepper.KortewegDeVries(
            1,
            length,
            n,
            1 / steps,
            convection_scale=6.0,
            hyper_diffusivity=0.0,
            conservative=True,
            order=4,
        )
        theirs.append(float((run_exponax(exponax, stepper, u, steps) - finest).abs().max()))
    for i in range(2):
        assert math.log2(ours[i] / ours[i + 1]) == pytest.approx(4, abs=0.3)
        assert math.log2(theirs[i] / theirs[i + 1]) == pytest.approx(1, abs=0.3)
    assert ours[-1] < 1e-3 * theirs[-1]


@pytest.mark.parametrize("ndim", [1, 2])
def test_linear_equations(exponax, ndim):
    """Advection and diffusion are exact factors in both."""
    n = 24
    grid = line(n, 3.0) if ndim == 1 else plane(n, 3.0)
    fourier, u = Fourier(grid), waves(grid)
    symbols = {
        "Advection": -0.7 * sum(fourier.derivative(axis) for axis in range(ndim)),
        "Diffusion": 0.02 * fourier.laplacian,
    }
    options = {"Advection": {"velocity": 0.7}, "Diffusion": {"diffusivity": 0.02}}
    for name, symbol in symbols.items():
        step = Exponential(symbol, torch.zeros_like, 0.3)
        theirs = getattr(exponax.stepper, name)(ndim, 3.0, n, 0.3, **options[name])
        ours = fourier.inverse(step(fourier.transform(u)))
        assert (ours - run_exponax(exponax, theirs, u, 1)).abs().max() < 1e-13


# py-pde: second-order differences, so that the distance falls by 4 when its grid is halved.


def run_py_pde(pde, rhs, grid, u, time):
    """u_t = rhs(u, gradient, laplace) with its operators, whose points are cell centres."""
    sides = [(axis.lower, axis.upper) for axis in grid.axes]
    box = pde.CartesianGrid(sides, list(grid.shape), periodic=True)
    operators = [
        box.make_operator(name, bc="periodic", backend="scipy") for name in ("gradient", "laplace")
    ]

    def flat(t, y):
        return rhs(y.reshape(grid.shape), *operators).ravel()

    solution = scipy.integrate.solve_ivp(
        flat, (0, time), u.flatten().numpy(), method="DOP853", rtol=1e-8, atol=1e-9
    )
    return torch.from_numpy(np.ascontiguousarray(solution.y[:, -1])).view_as(u)


DIFFERENCES = {
    "burgers": (
        lambda n: Burgers(cells(n, 1), viscosity=0.1, dt=0.5, substeps=40),
        lambda u, gradient, laplace: -u * gradient(u)[0] + 0.1 * laplace(u),
        (64, 128, 256),
    ),
    "kuramoto-sivashinsky": (
        lambda n: KuramotoSivashinsky(cells(n, 1, 22.0), dt=1.0, substeps=40, conservative=True),
        lambda u, gradient, laplace: -u * gradient(u)[0] - laplace(u + laplace(u)),
        (32, 64, 128),
    ),
    "allen-cahn": (
        lambda n: AllenCahn(cells(n, 2), dt=1.0, substeps=40, diffusivity=0.1),
        lambda u, gradient, laplace: 0.1 * laplace(u) + u - u**3,
        (16, 32, 64),
    ),
    "fisher": (
        lambda n: FisherKPP(cells(n, 1), dt=1.0, substeps=40, diffusivity=0.1),
        lambda u, gradient, laplace: 0.1 * laplace(u) + u * (1 - u),
        (32, 64, 128),
    ),
}


def cells(n, ndim, length=TWO_PI):
    return periodic((n,) * ndim, (length,) * ndim, points="cells")


@pytest.mark.parametrize("name", DIFFERENCES)
def test_differences_approach_ours_at_their_order(pde, name):
    make, theirs, sizes = DIFFERENCES[name]
    distances = []
    for n in sizes:
        equation = make(n)
        found = run_py_pde(pde, theirs, equation.grid, start(equation), equation.dt)
        fine = make(256 if equation.grid.ndim == 1 else 64)
        expected = fine(start(fine))
        if n == fine.grid.shape[0]:
            moved = expected
        else:  # both are cell centres: move the first point of the fine grid to that of the coarse
            axes = range(fine.grid.ndim)
            half = sum(
                fine.basis.derivative(a) * (equation.grid.spacing[a] - fine.grid.spacing[a]) / 2
                for a in axes
            )
            v = fine.basis.transform(expected) * torch.exp(half)
            moved = fine.basis.resample(fine.basis.inverse(v), equation.grid)
        distances.append(float((found - moved).square().mean().sqrt()))
    assert math.log2(distances[-2] / distances[-1]) == pytest.approx(2, abs=0.3), distances
    assert distances[-1] < 2e-2
