"""Truncated Fourier transforms against the full FFT, exact waves and each other."""

import math

import pytest
import torch

from sciml.layers import FourierBasis, SpectralConv, fourier_basis, fusion
from sciml.layers.trigonometric import ModeFFT, WaveFFT, WaveMatrix
from solvers.grid import Axis, Grid

SHAPES = [(16,), (17,), (12, 16), (13, 16), (12, 17), (13, 15), (8, 10, 12), (9, 10, 11)]


def periodic(shape):
    return Grid.box(shape, boundary="periodic", points="left")


def wavenumbers(modes):
    """The modes that are kept, in the order of the spectrum, per axis."""
    sides = [[*range(m), *range(-1, -m - 1, -1)] for m in modes[:-1]]
    return [*map(torch.tensor, sides), torch.arange(modes[-1] + 1)]


def from_fft(x, modes):
    """The same numbers picked from the full complex FFT."""
    full = torch.fft.fftn(x, dim=tuple(range(len(modes))), norm="forward")
    for axis, k in enumerate(wavenumbers(modes)):
        full = full.index_select(axis, k % x.shape[axis])
    return full


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_analysis_agrees_with_the_fft(shape):
    modes = tuple(n // 2 - 1 for n in shape)
    x = torch.randn(*shape, 2, 3, dtype=torch.float64)
    basis = FourierBasis(periodic(shape), modes, [1.0] * len(shape), like=x)
    torch.testing.assert_close(basis.analyse(x), from_fft(x, modes), rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_synthesis_inverts_analysis(shape):
    """Fields with modes |k| < m come back; m = n // 2 on grids of odd and even size."""
    modes = tuple(n // 2 for n in shape)
    spectrum = torch.fft.fftn(
        torch.randn(*shape, 3, dtype=torch.float64), dim=tuple(range(len(shape)))
    )
    for axis, (n, m) in enumerate(zip(shape, modes, strict=True)):
        low = torch.fft.fftfreq(n, 1 / n).abs() < m
        spectrum = spectrum * low.reshape(-1, *[1] * (len(shape) - axis))
    x = torch.fft.ifftn(spectrum, dim=tuple(range(len(shape)))).real
    basis = FourierBasis(periodic(shape), modes, [1.0] * len(shape), like=x)
    torch.testing.assert_close(basis.synthesise(basis.analyse(x)), x, rtol=0, atol=1e-13)


def test_all_modes_of_an_odd_axis():
    x = torch.randn(17, 3, dtype=torch.float64)
    basis = FourierBasis(periodic((17,)), (8,), (1.0,), like=x)
    torch.testing.assert_close(basis.synthesise(basis.analyse(x)), x, rtol=0, atol=1e-13)


@pytest.mark.parametrize("n", [16, 17])
@pytest.mark.parametrize("k", [0, 1, 5])
def test_exact_wave(n, k):
    grid = periodic((n, n))
    x, y = grid.mesh()
    u = torch.cos(2 * math.pi * (k * x - 2 * y) + 0.3)[..., None]
    basis = FourierBasis(grid, (6, 6), (1.0, 1.0), like=u)
    torch.testing.assert_close(basis.synthesise(basis.analyse(u)), u, rtol=0, atol=1e-13)


def test_nyquist_modes_count_once():
    """All modes of an even axis: the alternating field comes back, not twice itself."""
    grid = periodic((8,))
    u = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)[:, None]
    basis = FourierBasis(grid, (4,), (1.0,), like=u)
    torch.testing.assert_close(basis.synthesise(basis.analyse(u)), u)
    both = periodic((8, 8))
    v = (u * u[:, 0])[..., None]
    for modes in [(4, 4), (6, 6)]:  # 6 > 8 // 2: the modes beyond do not exist
        basis = FourierBasis(both, modes, (1.0, 1.0), like=v)
        torch.testing.assert_close(basis.synthesise(basis.analyse(v)), v)


def test_missing_modes_are_zero():
    u = torch.randn(8, 2, dtype=torch.float64)
    spectrum = FourierBasis(periodic((8,)), (7,), (1.0,), like=u).analyse(u)
    assert spectrum[:5].abs().min() > 0 and spectrum[5:].abs().max() == 0


@pytest.mark.parametrize("points", ["cells", "left"])
def test_period_is_zero_padding(points):
    """A period of 1.5 lengths gives the modes of the field padded by half its length with zeros."""
    n, modes = 16, (5,)
    u = torch.randn(n, 2, dtype=torch.float64)
    basis = FourierBasis(Grid.box((n,), points=points), modes, (1.5,), like=u)
    padded = torch.cat((u, torch.zeros(n // 2, 2, dtype=torch.float64)))
    torch.testing.assert_close(basis.analyse(u), from_fft(padded, modes))
    full = FourierBasis(periodic((n + n // 2,)), modes, (1.0,), like=u)
    torch.testing.assert_close(
        basis.synthesise(basis.analyse(u)), full.synthesise(full.analyse(padded))[:n]
    )


@pytest.mark.parametrize("points", ["cells", "nodes"])
def test_coefficients_converge_with_the_grid(points):
    """On a wall-bounded axis the sums are quadratures of second order: slope 2 in the spacing."""
    exact = None
    errors, sizes = [], (16, 32, 64, 2048)
    for n in reversed(sizes):
        grid = Grid((Axis("x", n, points=points),))
        u = torch.exp(grid.mesh()[0])[:, None]
        shift = torch.exp(-2j * math.pi * torch.arange(4) * grid.axes[0].coordinates()[0] / 1.5)
        found = FourierBasis(grid, (3,), (1.5,), like=u).analyse(u)[:, 0] * shift
        exact = found if exact is None else exact
        errors.append((found - exact).abs().max())
    orders = [math.log2(errors[i + 1] / errors[i]) for i in (1, 2)]
    assert all(abs(order - 2) < 0.3 for order in orders), orders


@pytest.mark.parametrize("shape", [(16, 16), (15, 17)], ids=str)
def test_convolution_is_translation_equivariant(shape):
    torch.manual_seed(0)
    layer = SpectralConv(2, 3, (5, 5)).double()
    x = torch.randn(*shape, 4, 2, dtype=torch.float64)
    basis = FourierBasis(periodic(shape), (5, 5), (1.0, 1.0), like=x)
    moved = layer(x.roll((3, 2), (0, 1)), basis)
    torch.testing.assert_close(moved, layer(x, basis).roll((3, 2), (0, 1)), rtol=0, atol=1e-13)


def test_convolution_gradients():
    torch.manual_seed(0)
    layer = SpectralConv(2, 2, (2, 2)).double()
    x = torch.randn(5, 6, 2, 2, dtype=torch.float64, requires_grad=True)
    basis = FourierBasis(periodic((5, 6)), (2, 2), (1.0, 1.0), like=x)
    parameters = (x, layer.weight.entries, layer.bias)
    assert torch.autograd.gradcheck(
        lambda x, w, b: torch.func.functional_call(
            layer, {"weight.entries": w, "bias": b}, (x, basis)
        ),
        parameters,
    )


@pytest.mark.parametrize("points", ["cells", "left", "nodes"])
@pytest.mark.parametrize("period", [1.0, 1.5])
@pytest.mark.parametrize(
    "shape, modes",
    [((16,), 8), ((17,), 8), ((12,), 9), ((12, 17), 6), ((13, 16), 4), ((9, 8, 11), 4)],
    ids=str,
)
def test_products_and_ffts_agree(shape, modes, period, points, monkeypatch):
    """Both directions and both adjoints, Nyquist modes and missing modes included."""
    grid = Grid.box(shape, points=points)
    x = torch.randn(*shape, 2, 3, dtype=torch.float64)

    def both(largest):
        monkeypatch.setattr(fourier_basis, "LARGEST_PRODUCT", largest)
        return FourierBasis(grid, (modes,) * len(shape), (period,) * len(shape), like=x)

    products, ffts = both(100), both(0)
    samples = [(n - (points == "nodes")) * period for n in shape]
    fit = [n.is_integer() and n >= size for n, size in zip(samples, shape, strict=True)]
    kinds = [ModeFFT if ok else WaveMatrix for ok in fit]
    kinds[-1] = WaveFFT if fit[-1] else WaveMatrix
    assert [type(waves) for waves in ffts._synthesis] == kinds
    assert all(type(waves) is WaveMatrix for waves in products._analysis)
    z = torch.randn_like(products.analyse(x))
    for one, other in ((products, ffts), (products.adjoint, ffts.adjoint)):
        torch.testing.assert_close(one.analyse(x), other.analyse(x), rtol=0, atol=1e-12)
        torch.testing.assert_close(one.synthesise(z), other.synthesise(z), rtol=0, atol=1e-12)


@pytest.mark.parametrize("largest", [0, 100], ids=["FFT", "products"])
@pytest.mark.parametrize("shape", [(17,), (12, 17), (9, 8, 11)], ids=str)
def test_a_field_in_parts(shape, largest, monkeypatch):
    """What the parts of a field add up to is what the whole gives, in both directions."""
    monkeypatch.setattr(fourier_basis, "LARGEST_PRODUCT", largest)
    x = torch.randn(*shape, 2, 3, dtype=torch.float64)
    basis = FourierBasis(periodic(shape), (4,) * len(shape), (1.0,) * len(shape), like=x)
    z = torch.randn_like(basis.analyse(x))
    monkeypatch.setattr(fusion, "CHUNK", 3 * x.numel() // shape[0])
    parts = list(basis.parts(x.numel()))
    assert len(parts) == (1 if shape == (17,) and largest == 0 else math.ceil(shape[0] / 3))
    added, sums, lines = x.clone(), basis.zero_lines(x), basis.lines(z)
    for part in parts:
        basis.add_part(added[part], part, lines)
        basis.add_sums(sums, part, x[part])
    torch.testing.assert_close(added, x + basis.synthesise(z), rtol=0, atol=1e-12)
    torch.testing.assert_close(basis.spectrum(sums, (2, 3)), basis.analyse(x), rtol=0, atol=1e-12)


def test_an_fft_needs_whole_lines():
    x = torch.randn(160, 1)
    waves = FourierBasis(periodic((160,)), (65,), (1.0,), like=x)._analysis[0]
    assert waves.part(slice(None)) is waves
    with pytest.raises(ValueError, match="all points of a line"):
        waves.part(slice(0, 80))


def test_ffts_take_over_beyond_64_modes():
    x = torch.randn(160, 1, dtype=torch.float64)
    kinds = [
        type(FourierBasis(periodic((160,)), (m,), (p,), like=x)._analysis[0])
        for m, p in ((64, 1.0), (65, 1.0), (65, 1.003))
    ]
    assert kinds == [WaveMatrix, WaveFFT, WaveMatrix]  # 160 * 1.003 is no integer


@pytest.mark.parametrize("shape", [(16,), (9, 12), (6, 7, 8)], ids=str)
def test_adjoint(shape):
    """<analyse(x), z> = <x, adjoint.synthesise(z)> and the other way round."""
    grid = Grid.box(shape, points="nodes")
    x = torch.randn(*shape, 2, dtype=torch.float64)
    basis = FourierBasis(grid, (3,) * len(shape), (1.25,) * len(shape), like=x)
    z = torch.randn_like(basis.analyse(x))
    dot = lambda p, q: (p.conj() * q).real.sum()  # noqa: E731
    torch.testing.assert_close(dot(basis.analyse(x), z), dot(x, basis.adjoint.synthesise(z)))
    torch.testing.assert_close(dot(basis.synthesise(z), x), dot(z, basis.adjoint.analyse(x)))


@pytest.mark.parametrize("bias", [True, False], ids=["with bias", "without"])
def test_hooks_see_spectra_whose_product_is_the_gradient_of_the_weight(bias):
    torch.manual_seed(0)
    layer = SpectralConv(3, 2, (3, 4), bias=bias).double()
    x = torch.randn(9, 10, 5, 3, dtype=torch.float64, requires_grad=True)
    basis = FourierBasis(periodic((9, 10)), (3, 4), (1.0, 1.0), like=x)
    seen = {}
    layer.mixing.register_forward_pre_hook(lambda m, args: seen.update(first=args[0].detach()))
    layer.mixing.register_full_backward_hook(lambda m, inner, outer: seen.update(second=outer[0]))
    layer(x, basis).square().sum().backward()
    assert seen["first"].shape == (6, 5, 5, 3) and seen["second"].shape == (6, 5, 5, 2)
    torch.testing.assert_close(seen["first"], from_fft(x.detach(), (3, 4)))
    product = torch.einsum("xybi,xybo->xyio", seen["first"].conj(), seen["second"])
    torch.testing.assert_close(torch.view_as_complex(layer.weight.entries.grad), product)
