import math

import numpy as np
import pytest
import scipy.fft
import torch

from solvers import Axis, GaussianRandomField, Grid, Lognormal, TrigonometricScales, TwoValued


def seeds(count, first=0):
    return [torch.Generator().manual_seed(first + i) for i in range(count)]


def normals(seed, shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def green(basis, tau, x, y):
    """Kernel of (-d2/dx2 + tau^2)^-1 on [0, 1]: the covariance for alpha = 1, in closed form."""
    low, high = torch.minimum(x, y), torch.maximum(x, y)
    if basis == "neumann":
        return (tau * low).cosh() * (tau * (1 - high)).cosh() / (tau * math.sinh(tau))
    if basis == "dirichlet":
        return (tau * low).sinh() * (tau * (1 - high)).sinh() / (tau * math.sinh(tau))
    return (tau * (0.5 - (high - low))).cosh() / (2 * tau * math.sinh(tau / 2))


@pytest.mark.parametrize("basis", ["neumann", "dirichlet", "periodic"])
def test_variance_is_the_green_function(basis):
    field = GaussianRandomField(
        1.0, 3.0, basis=basis, normalisation="none", num_modes=8001, zero_mean=False
    )
    grid = Grid.box((37,))
    x = grid.mesh()[0]
    torch.testing.assert_close(field.variance(grid), green(basis, 3.0, x, x), rtol=0, atol=5e-5)


@pytest.mark.parametrize("basis", ["neumann", "dirichlet", "periodic"])
def test_sampled_covariance_is_the_green_function(basis):
    field = GaussianRandomField(
        1.0, 3.0, basis=basis, normalisation="none", num_modes=201, zero_mean=False
    )
    grid = Grid.box((9,))
    samples = field.sample(seeds(4000), grid)
    x = grid.mesh()[0]
    exact = green(basis, 3.0, x[:, None], x[None, :])
    error = samples.T @ samples / len(samples) - exact
    # An entry deviates by sqrt((C_ii C_jj + C_ij^2) / 4000); the series ends early.
    deviation = (exact.diagonal()[:, None] * exact.diagonal() + exact**2).sqrt() / 4000**0.5
    assert (error.abs() < 4.5 * deviation + 1e-3).all()
    assert (samples.mean(dim=0).abs() < 4.5 * (exact.diagonal() / 4000).sqrt()).all()


def test_equals_the_published_cosine_script():
    """U = idct2(s coef xi), coef = tau^(alpha - 1) (pi^2 |k|^2 + tau^2)^(-alpha/2), no k = 0."""
    s, alpha, tau = 33, 2.0, 3.0
    xi = normals(7, (s, s)).numpy()
    k = np.arange(s)
    coef = tau ** (alpha - 1) * (np.pi**2 * (k[:, None] ** 2 + k**2) + tau**2) ** (-alpha / 2)
    spectrum = s * coef * xi
    spectrum[0, 0] = 0.0
    expected = scipy.fft.idctn(spectrum, norm="ortho")
    field = GaussianRandomField(alpha, tau, num_modes=s)
    sample = field.sample(seeds(1, first=7), Grid.box((s, s)))[0]
    torch.testing.assert_close(sample, torch.from_numpy(expected), rtol=0, atol=1e-12)


def test_has_the_variance_of_the_published_periodic_script():
    """u = Re ifft(n^2 sqrt2 sigma lam^(-alpha/2) xi), E|xi|^2 = 1, no k = 0, alpha 2.5, tau 7.

    Every wave number adds sigma^2 lam^-alpha; the standard deviation is the 0.186 of that script.
    """
    alpha, tau, top = 2.5, 7.0, 32
    k = torch.arange(-top, top + 1, dtype=torch.float64)
    lam = 4 * math.pi**2 * (k[:, None] ** 2 + k**2) + tau**2
    lam[top, top] = torch.inf
    expected = (tau ** (2 * alpha - 2) * lam**-alpha).sum()
    field = GaussianRandomField(alpha, tau, basis="periodic", num_modes=2 * top + 1)
    variance = field.variance(Grid.box((16, 12), boundary="periodic", points="left"))
    torch.testing.assert_close(variance, expected.expand(16, 12))
    assert abs(expected.sqrt() - 0.186) < 1e-3


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("basis", ["neumann", "dirichlet", "periodic"])
def test_unit_normalisation_has_mean_variance_one(basis, ndim):
    """On cells enough for the products of cosines to integrate exactly."""
    axes = [Axis(n, 40, lower=-1.0, upper=u) for n, u in zip("xyz"[:ndim], (1, 2, 0), strict=False)]
    field = GaussianRandomField(1.5, 5.0, basis=basis, normalisation="unit", num_modes=15, scale=2)
    assert abs(field.variance(Grid(tuple(axes))).mean() - 4.0) < 1e-12


def test_the_box_scales_the_eigenvalues():
    """Lengths times 10 with tau / 10 is the same field up to its amplitude."""
    small, large = Grid.box((20, 20)), Grid((Axis("x", 20, upper=10.0), Axis("y", 20, upper=10.0)))
    fields = [
        GaussianRandomField(2.0, tau, normalisation="unit", num_modes=21).sample(seeds(1), grid)
        for tau, grid in ((3.0, small), (0.3, large))
    ]
    torch.testing.assert_close(*fields)


@pytest.mark.parametrize("basis", ["neumann", "dirichlet", "periodic"])
def test_a_seed_is_a_function(basis):
    field = GaussianRandomField(2.0, 3.0, basis=basis)
    nodes = [field.sample(seeds(2), Grid.box((n + 1,) * 2, points="nodes")) for n in (64, 128)]
    torch.testing.assert_close(nodes[0], nodes[1][:, ::2, ::2], rtol=0, atol=1e-12)
    # Cell centres of a grid are among those of the one three times as fine.
    cells = [field.sample(seeds(2), Grid.box((n, n))) for n in (64, 192)]
    torch.testing.assert_close(cells[0], cells[1][:, 1::3, 1::3], rtol=0, atol=1e-12)


def test_a_sample_depends_on_its_generator_alone():
    field = GaussianRandomField(2.0, 3.0)
    grid = Grid.box((16, 20))
    batch = field.sample(seeds(5), grid)
    assert torch.equal(batch[3:4], field.sample(seeds(1, first=3), grid))
    assert torch.equal(batch, field.sample(seeds(5), grid))
    generator = torch.Generator().manual_seed(0)
    first, second = field.sample([generator, generator], grid)
    assert torch.equal(first, batch[0]) and not torch.equal(first, second)


def test_spectrum_falls_as_it_should():
    """Variance of the cosine coefficients of samples, against (pi^2 k^2 + tau^2)^-alpha."""
    field = GaussianRandomField(2.0, 3.0, normalisation="none", num_modes=64)
    samples = field.sample(seeds(3000), Grid.box((64,)))
    coefficients = scipy.fft.dct(samples.numpy(), norm="ortho", axis=1) / 8.0
    k = np.arange(1, 64)
    ratio = coefficients[:, 1:].var(axis=0) * (np.pi**2 * k**2 + 9) ** 2
    assert abs(coefficients[:, 0]).max() < 1e-14  # no constant
    assert (abs(ratio - 1) < 4.5 * math.sqrt(2 / 3000)).all()


def test_walls_of_the_bases():
    grid = Grid.box((65,), points="nodes")
    zero, flat, loop = (
        GaussianRandomField(5.0, 3.0, basis=basis).sample(seeds(1), grid)[0]
        for basis in ("dirichlet", "neumann", "periodic")
    )
    assert zero[[0, -1]].abs().max() < 1e-12
    assert (flat[1] - flat[0]).abs() < 0.1 * (flat[1:] - flat[:-1]).abs().max()
    assert (loop[0] - loop[-1]).abs() < 1e-12


def test_maps():
    psi = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)
    assert TwoValued()(psi).tolist() == [3.0, 12.0, 12.0]
    assert TwoValued(0.7, 0.1, level=1.0)(psi).tolist() == [0.1, 0.1, 0.7]
    torch.testing.assert_close(Lognormal(1.0, 2.0)(psi), torch.exp(1 + 2 * psi))
    sample = GaussianRandomField(2.0, 3.0).sample(seeds(100), Grid.box((32, 32)))
    assert abs((TwoValued()(sample) == 12.0).double().mean() - 0.5) < 0.05


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"basis": "chebyshev"}, "basis='chebyshev' is not one of"),
        ({"normalisation": "paper"}, "normalisation='paper' is not one of"),
        ({"num_modes": 1}, "leaves no function"),
        ({"num_modes": 64, "basis": "periodic"}, "cosine without its sine"),
        ({"tau": 0.0}, "tau=0.0 must be positive"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianRandomField(**{"alpha": 2.0, "tau": 3.0, **arguments})


def test_an_unpaired_cosine_would_break_stationarity():
    """What the odd number of periodic modes guards against."""
    field = GaussianRandomField(1.0, 3.0, basis="periodic", num_modes=9)
    grid = Grid.box((16,), boundary="periodic", points="left")
    assert field.variance(grid).std() < 1e-12
    field.num_modes = 8
    assert field.variance(grid).std() > 1e-3


def test_too_many_coefficients():
    with pytest.raises(ValueError, match="lower num_modes"):
        GaussianRandomField(2.0, 3.0, num_modes=1025).sample(seeds(1), Grid.box((4, 4, 4)))
    with pytest.raises(ValueError, match="must be positive to be permeabilities"):
        TwoValued(low=0.0)


def test_trigonometric_scales_are_the_product_on_every_grid():
    field = TrigonometricScales(3)
    grid = Grid.box((16, 24))
    [log] = field.sample([torch.Generator().manual_seed(5)], grid)
    draws = torch.rand(3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    x, y = grid.mesh()
    a = torch.ones_like(x)
    for f in torch.tensor([1.0, 2.0, 4.0]).double() * (1 + draws / 2):
        a *= 1 + torch.cos(math.pi * f * (x + y)) / 2
        a *= 1 + torch.sin(math.pi * f * (y - 3 * x)) / 2
    torch.testing.assert_close(log.exp(), a)
    fine = field.sample([torch.Generator().manual_seed(5)], Grid.box((48, 72)))[0]
    torch.testing.assert_close(fine[1::3, 1::3], log)
    with pytest.raises(ValueError, match="count=0 of the scales"):
        TrigonometricScales(0)
    with pytest.raises(ValueError, match="2 dimensions, the grid 1 axes"):
        field.sample([torch.Generator()], Grid.box((8,)))
