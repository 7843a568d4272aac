"""Equations with a stiff linear part, by exponential methods in Fourier and cosine modes."""

import torch

from benchmarks.acceptance.figure import Figure, Figures, order, slope
from solvers import FitzHughNagumo, KuramotoSivashinsky, SwiftHohenberg, rollout
from tests import (
    test_exponential,
    test_fitzhugh_nagumo,
    test_navier_stokes,
    test_semilinear,
    test_swift_hohenberg,
)
from tests.helpers import periodic

METHOD = "ETDRK4"


def burgers() -> Figures:
    error = test_semilinear.cole_hopf_error(0.01)
    yield Figure("Burgers", METHOD, "Cole-Hopf, largest error, 512 points", error, 1e-8)
    for name, what in (("burgers", "time"), ("burgers 2-D", "time, 2-D")):
        yield order("Burgers", METHOD, what, test_semilinear.observed_order(name), 4)


def korteweg_de_vries() -> Figures:
    finest = test_exponential.kdv(640)
    errors = [float((test_exponential.kdv(n) - finest).abs().max()) for n in (40, 80)]
    yield order("Korteweg-de Vries", METHOD, "time", slope(errors), 4)
    shape, mass, square = test_semilinear.soliton_errors()
    yield Figure("Korteweg-de Vries", METHOD, "soliton, largest error", shape, 1e-7)
    yield Figure("Korteweg-de Vries", METHOD, "change of the sum of u", mass, 1e-11)
    yield Figure("Korteweg-de Vries", METHOD, "change of the sum of u^2, relative", square, 1e-7)


def kuramoto_sivashinsky() -> Figures:
    name = "Kuramoto-Sivashinsky"
    for form, what in (("kuramoto-sivashinsky", "time"), ("its derivative", "time, conservative")):
        yield order(name, METHOD, what, test_semilinear.observed_order(form), 4)
    grid = periodic((64,), (22.0,))
    u = test_semilinear.smooth(grid) + 0.3
    equation = KuramotoSivashinsky(grid, dt=1.0, substeps=20, conservative=True)
    drift = float((rollout(equation, u, 20).mean(-1) - u.mean(-1)[:, None]).abs().max())
    yield Figure(name, METHOD, "change of the mean, t = 20", drift, 1e-12)
    torch.manual_seed(0)
    exponent = test_semilinear.lyapunov_exponent()
    what = "Lyapunov exponent, period 22"
    yield Figure(name, METHOD, what, exponent, 0.045, within=0.006)


def reactions() -> Figures:
    rises = float((test_semilinear.energies_of_allen_cahn().diff(dim=0) >= 0).sum())
    yield Figure("Allen-Cahn", METHOD, "steps in which the energy rises, of 80", rises, 0)
    yield order("Allen-Cahn", METHOD, "time", test_semilinear.observed_order("allen-cahn"), 4)
    yield Figure("Fisher-KPP", METHOD, "exact front, error", test_semilinear.front_error(), 1e-6)
    lag = abs(test_semilinear.front_speed() - 1)
    what = "speed at t = 22.5 against 2 sqrt(D r), relative"
    yield Figure("Fisher-KPP", METHOD, what, lag, 0.05)
    yield order("Fisher-KPP", METHOD, "time", test_semilinear.observed_order("fisher"), 4)
    yield order("Gray-Scott", METHOD, "time", test_semilinear.observed_order("gray-scott"), 4)


def patterns() -> Figures:
    equation = FitzHughNagumo(
        test_fitzhugh_nagumo.box(12, 12), dt=1.0, diffusivities=(0.1, 0.5), substeps=8
    )
    found = test_semilinear.order_in_time(equation, test_fitzhugh_nagumo.cosines(equation.grid, 2))
    yield order("FitzHugh-Nagumo", f"{METHOD}, cosines", "time", found, 4)
    equation = SwiftHohenberg(test_swift_hohenberg.GRID, dt=1.0, substeps=16)
    found = test_semilinear.order_in_time(equation, 0.3 * test_semilinear.smooth(equation.grid))
    yield order("Swift-Hohenberg", METHOD, "time", found, 4)


def navier_stokes() -> Figures:
    name = "Navier-Stokes, torus"
    error = test_navier_stokes.taylor_green_error()
    yield Figure(name, METHOD, "Taylor-Green vortex, t = 2", error, 1e-12)
    what = "rates of energy and enstrophy, relative"
    yield Figure(name, METHOD, what, test_navier_stokes.budget_error(), 1e-13)
    what = "energy gained in a step, relative"
    yield Figure(name, METHOD, what, test_navier_stokes.budget_over_time(20), 1e-8)
    yield order(name, METHOD, "time", test_semilinear.observed_order("navier-stokes"), 4)
    differences = test_navier_stokes.script_differences((2500, 5000, 10000))
    what = "FNO script's scheme at dt = 1e-4, t = 1"
    yield Figure(name, METHOD, what, differences[-1], 1e-4)
    yield order(name, METHOD, "distance from the FNO script's scheme", slope(differences), 1)


MEASUREMENTS = (
    burgers,
    korteweg_de_vries,
    kuramoto_sivashinsky,
    reactions,
    patterns,
    navier_stokes,
)
