import math

import pytest
import torch

from solvers import (
    GaussianRandomField,
    Grid,
    Multigrid,
    Stencil,
    TwoValued,
    conjugate_gradients,
    transmissibilities,
)
from solvers.multigrid import Pairs


def permeability(batch, shape, contrast=None, seed=0):
    """Two-valued media, or lognormal noise per cell when no contrast is given; [b, *shape]."""
    if contrast is None:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, *shape, generator=generator, dtype=torch.float64).exp()
    field = GaussianRandomField(2.0, 3.0)
    generators = [torch.Generator().manual_seed(seed + i) for i in range(batch)]
    return TwoValued(high=12.0, low=12.0 / contrast)(field.sample(generators, Grid.box(shape)))


def operator(a, lengths=None):
    spacing = [length / n for length, n in zip(lengths or [1.0] * 3, a.shape[1:], strict=False)]
    return transmissibilities(a, spacing), spacing


def dense(M, space):
    """The matrix of a linear map on fields, column by column, for a batch of one."""
    columns = torch.eye(math.prod(space), dtype=torch.float64).view(-1, 1, *space)
    return torch.stack([M(c).flatten() for c in columns], dim=1)


SHAPES = [(40,), (41,), (8, 8), (9, 7), (7, 12), (1, 45), (2, 33), (5, 4, 3), (4, 4, 5)]


@pytest.mark.parametrize("space", SHAPES, ids=str)
def test_stencil_is_the_flux_balance(space):
    """Against a matrix put together face by face."""
    faces, _ = operator(permeability(2, space))
    number = torch.arange(math.prod(space)).view(space)
    expected = torch.zeros(2, number.numel(), number.numel(), dtype=torch.float64)
    for axis, t in enumerate(faces, start=1):
        t, cells = t.movedim(axis, 0), number.movedim(axis - 1, 0)
        for k in range(len(t)):
            below = cells[k - 1].flatten() if k > 0 else None
            above = cells[k].flatten() if k < len(cells) else None
            flux = t[k].flatten(1) if t.dim() > 2 else t[k][:, None]
            for here, there in ((below, above), (above, below)):
                if here is not None:
                    expected[:, here, here] += flux
                if here is not None and there is not None:
                    expected[:, here, there] -= flux
    torch.testing.assert_close(Stencil(faces).dense(), expected)
    u = permeability(2, space, seed=5)
    product = (expected @ u.flatten(1)[..., None])[..., 0].view_as(u)
    torch.testing.assert_close(Stencil(faces)(u), product)
    torch.testing.assert_close(Stencil(faces).subtract_(u.clone(), u), u - product)


@pytest.mark.parametrize("space", SHAPES, ids=str)
@pytest.mark.parametrize("degree", [1, 3])
def test_is_symmetric_and_close_to_the_inverse(space, degree):
    faces, spacing = operator(permeability(1, space))
    M = Multigrid(faces, spacing, degree=degree, coarsest=3, dtype=torch.float64)
    assert len(M.levels) >= 2
    matrix = dense(M, space)
    torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=1e-13 * matrix.abs().max().item())
    chol = torch.linalg.cholesky(Stencil(faces).dense()[0])
    eigenvalues = torch.linalg.eigvalsh(chol.T @ matrix @ chol)
    assert eigenvalues.min() > 0.3 and eigenvalues.max() < 1.3, eigenvalues[[0, -1]]


def test_float32_is_the_same_cycle_rounded():
    space = (12, 9)
    faces, spacing = operator(1e-9 * permeability(1, space, contrast=1e4))
    exact = dense(Multigrid(faces, spacing, dtype=torch.float64), space)
    rounded = dense(Multigrid(faces, spacing), space)
    assert (rounded - exact).norm() < 1e-5 * exact.norm()


def test_small_grids_are_inverted():
    faces, spacing = operator(permeability(3, (5, 6)))
    b = permeability(3, (5, 6), seed=9)
    x = Multigrid(faces, spacing, dtype=torch.float64)(b)
    torch.testing.assert_close(Stencil(faces)(x), b)


@pytest.mark.parametrize("size", [6, 7])
def test_weights_of_constant_coefficients_are_those_of_linear_interpolation(size):
    faces, _ = operator(torch.ones(1, size, dtype=torch.float64))
    pairs = Pairs(faces, 0, torch.float64)
    centres = torch.arange(size) + 0.5
    coarse = (centres[0 : 2 * (size // 2) : 2] + centres[1::2]) / 2
    if size % 2:
        coarse = torch.cat([coarse, centres[-1:]])
    # Zero on both walls, linear between; exact where the walls are not involved.
    line = pairs.prolong(coarse.double()[None])[0]
    torch.testing.assert_close(line[:-1], centres[:-1].double())
    ones = pairs.prolong(torch.ones_like(coarse.double())[None])[0]
    assert ones[0] == 0.5 and (ones[1:-1] == 1).all()
    assert ones[-1] == (1.0 if size % 2 else 0.5)


@pytest.mark.parametrize("space, axis", [((7, 4), 0), ((6, 5), 1), ((3, 4, 9), 2)])
def test_restriction_is_the_transpose_of_prolongation(space, axis):
    faces, _ = operator(permeability(2, space))
    pairs = Pairs(faces, axis, torch.float64)
    fine = permeability(2, space, seed=1)
    coarse = torch.randn_like(pairs.restrict(fine))
    torch.testing.assert_close(
        (fine * pairs.prolong(coarse)).sum(), (pairs.restrict(fine) * coarse).sum()
    )


@pytest.mark.parametrize("space, axis", [((7, 4), 0), ((6, 5), 1), ((3, 4, 9), 2)])
def test_coarse_faces_keep_resistance_along_and_conductance_across(space, axis):
    faces, _ = operator(permeability(2, space))
    coarse = Pairs(faces, axis, torch.float64).coarse_faces
    for k, (t, c) in enumerate(zip(faces, coarse, strict=True), start=1):
        if k == axis + 1:
            torch.testing.assert_close((1 / c).sum(dim=k), (1 / t).sum(dim=k))
        else:
            torch.testing.assert_close(c.sum(dim=axis + 1), t.sum(dim=axis + 1))


@pytest.mark.parametrize("size", [40, 41])
def test_in_one_dimension_the_coarse_energy_is_an_upper_bound(size):
    """P^T A P <= A_coarse: the coarse correction never overshoots, whatever the coefficients."""
    faces, _ = operator(permeability(1, (size,)) ** 4)
    pairs = Pairs(faces, 0, torch.float64)
    coarse = Stencil(pairs.coarse_faces).dense()[0]
    P = torch.stack([pairs.prolong(e[None])[0] for e in torch.eye(len(coarse)).double()], dim=1)
    galerkin = P.T @ Stencil(faces).dense()[0] @ P
    assert torch.linalg.eigvalsh(coarse - galerkin).min() > -1e-10 * coarse.abs().max()


def iterations(a, lengths=None, **options):
    faces, spacing = operator(a, lengths)
    spacing = options.pop("spacing", spacing)
    M = Multigrid(faces, spacing, **options)
    _, info = conjugate_gradients(Stencil(faces), torch.ones_like(a), M)
    assert info.converged.all()
    return info.iterations.max().item()


@pytest.mark.parametrize("contrast, most", [(1.0, 7), (4.0, 8), (1e4, 32)])
def test_iterations_do_not_grow_with_the_grid(contrast, most):
    counts = {n: iterations(permeability(2, (n, n), contrast)) for n in (33, 64, 85, 128)}
    counts[421] = iterations(permeability(1, (421, 421), contrast))
    assert max(counts.values()) <= most, counts


@pytest.mark.parametrize("space", [(33, 20, 45), (421, 4), (1, 400)], ids=str)
def test_iterations_on_other_shapes(space):
    assert iterations(permeability(1, space)) <= 10


@pytest.mark.parametrize("lengths", [(1.0, 100.0), (1.9, 1.0), (0.01, 5.0)], ids=str)
def test_semi_coarsening_copes_with_flat_cells(lengths):
    """Control: joining pairs along both axes at once, as for square cells."""
    a = permeability(1, (64, 48))
    assert iterations(a, lengths) <= 10
    if max(lengths) / min(lengths) > 10:
        assert iterations(a, lengths, spacing=(1.0, 1.0)) > 3 * iterations(a, lengths)


def test_walls_without_flux_are_allowed():
    faces, spacing = operator(permeability(1, (37, 22)))
    faces[0][:, 0] = faces[0][:, -1] = 0.0
    b = torch.ones(1, 37, 22, dtype=torch.float64)
    x, info = conjugate_gradients(Stencil(faces), b, Multigrid(faces, spacing))
    assert info.converged.all() and info.iterations.item() <= 8


def test_more_smoothing_means_fewer_iterations():
    a = permeability(1, (64, 64), 1e4)
    counts = [iterations(a, degree=degree) for degree in (1, 2, 4)]
    assert counts[0] > counts[1] > counts[2]
    with pytest.raises(ValueError, match="degree=0 must be 1 or more"):
        iterations(a, degree=0)


def test_the_order_of_the_axes_hardly_matters():
    a = permeability(1, (30, 50))
    assert abs(iterations(a, (1.0, 2.0)) - iterations(a.mT, (2.0, 1.0))) <= 1


def network(space, periodic, seed=0):
    """Faces and grounds on either side of each axis, a third of them zero; some cells empty."""
    generator = torch.Generator().manual_seed(seed)
    fluid = torch.rand(1, *space, generator=generator) > 0.3

    def thinned(shape, share):
        kept = torch.rand(shape, generator=generator) < share
        return kept * torch.rand(shape, generator=generator, dtype=torch.float64).add(0.1)

    faces, grounds = [], []
    for k, wraps in enumerate(periodic):
        below = fluid.roll(1, k + 1)
        if not wraps:
            below.select(k + 1, 0)[:] = False
        t = thinned(fluid.shape, 0.7) * (fluid & below)
        faces.append(t if wraps else torch.cat([t, 0 * t.narrow(k + 1, 0, 1)], dim=k + 1))
        grounds += [thinned(fluid.shape, 0.1) * fluid for _ in range(2)]
    return faces, grounds


NETWORKS = [
    ((45,), (True,)),
    ((40,), (False,)),
    ((8, 9), (True, False)),
    ((9, 12), (True, True)),
    ((2, 33), (True, True)),
    ((5, 4, 3), (False, True, True)),
]


@pytest.mark.parametrize("space, periodic", NETWORKS, ids=str)
def test_stencil_with_grounds_and_periodic_axes(space, periodic):
    """Against the incidence matrix of the faces."""
    faces, grounds = network(space, periodic)
    number = torch.arange(math.prod(space)).view(space)
    expected = torch.diag(sum(grounds).flatten())
    for k, wraps in enumerate(periodic):
        t = faces[k][0] if wraps else faces[k][0].narrow(k, 0, space[k])
        ends = number.flatten(), number.roll(1, k).flatten()
        for here, there in (ends, ends[::-1]):
            expected.index_put_((here, here), t.flatten(), accumulate=True)
            expected.index_put_((here, there), -t.flatten(), accumulate=True)
    stencil = Stencil(faces, sum(grounds))
    torch.testing.assert_close(stencil.dense()[0], expected)
    u = permeability(1, space)
    torch.testing.assert_close(stencil.subtract_(u.clone(), u), u - stencil(u))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("space, periodic", NETWORKS, ids=str)
def test_is_symmetric_and_close_to_the_inverse_of_a_network(space, periodic, seed):
    """M is positive semidefinite; M A has eigenvalues near one, but for the null space of A."""
    faces, grounds = network(space, periodic, seed)
    M = Multigrid(faces, [1.0] * len(space), grounds, coarsest=3, dtype=torch.float64)
    assert len(M.levels) >= 2
    matrix, A = dense(M, space), Stencil(faces, sum(grounds)).dense()[0]
    torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=1e-12 * matrix.abs().max().item())
    assert torch.linalg.eigvalsh(matrix).min() > -1e-12 * matrix.abs().max()
    values, vectors = torch.linalg.eigh(A)
    root = vectors * values.clamp(min=0).sqrt()
    rank = int((values > 1e-12).sum())
    eigenvalues = torch.linalg.eigvalsh(root.T @ matrix @ root)[-rank:]
    assert eigenvalues.min() > 0.15 and eigenvalues.max() < 2.0, eigenvalues[[0, -1]]


@pytest.mark.parametrize("space", [(40,), (9, 7), (5, 4, 3)], ids=str)
def test_grounds_at_the_ends_are_walls(space):
    faces, spacing = operator(permeability(1, space))
    grounds, inside = [], []
    for k, t in enumerate(faces, start=1):
        n, inner = space[k - 1], t.clone()
        inner.narrow(k, 0, 1)[:] = inner.narrow(k, n, 1)[:] = 0
        inside.append(inner)
        outer = t - inner
        grounds += [outer.narrow(k, 0, n), outer.narrow(k, 1, n)]
    options = {"coarsest": 3, "dtype": torch.float64}
    walls = dense(Multigrid(faces, spacing, **options), space)
    torch.testing.assert_close(dense(Multigrid(inside, spacing, grounds, **options), space), walls)


@pytest.mark.parametrize("space, periodic", NETWORKS, ids=str)
def test_restriction_of_a_network_is_the_transpose_of_prolongation(space, periodic):
    faces, grounds = network(space, periodic)
    for axis in range(len(space)):
        pairs = Pairs(faces, axis, torch.float64, grounds)
        fine = permeability(1, space, seed=1)
        coarse = torch.randn_like(pairs.restrict(fine))
        torch.testing.assert_close(
            (fine * pairs.prolong(coarse)).sum(), (pairs.restrict(fine) * coarse).sum()
        )


@pytest.mark.parametrize("size", [40, 41])
def test_weights_on_a_ring_are_those_of_linear_interpolation(size):
    """A wave that both grids resolve; without faces and grounds at the ends there are no walls."""
    one = torch.ones(1, size, dtype=torch.float64)
    pairs = Pairs([one], 0, torch.float64, [0 * one, 0 * one])
    constant = pairs.prolong(torch.ones(1, (size + 1) // 2).double())
    torch.testing.assert_close(constant, one)
    centres = torch.arange(size).double() + 0.5
    nodes = torch.cat([centres[: size // 2 * 2].view(-1, 2).mean(dim=1), centres[size // 2 * 2 :]])
    wave = pairs.prolong((2 * math.pi * nodes / size).sin()[None])[0]
    assert (wave - (2 * math.pi * centres / size).sin()).abs().max() < 0.02


@pytest.mark.parametrize("space, periodic", NETWORKS[:2], ids=str)
def test_in_one_dimension_the_coarse_energy_of_a_network_is_an_upper_bound(space, periodic):
    for seed in range(20):
        faces, grounds = network(space, periodic, seed)
        # A side of a cell has a neighbour or a Dirichlet value, not both.
        below, above = faces[0][:, : space[0]], faces[0].roll(-1, 1)[:, : space[0]]
        grounds = [g * (t == 0) for g, t in zip(grounds, (below, above), strict=True)]
        pairs = Pairs(faces, 0, torch.float64, grounds)
        coarse = Stencil(pairs.coarse_faces, sum(pairs.coarse_grounds)).dense()[0]
        P = torch.stack([pairs.prolong(e[None])[0] for e in torch.eye(len(coarse)).double()], dim=1)
        galerkin = P.T @ Stencil(faces, sum(grounds)).dense()[0] @ P
        assert torch.linalg.eigvalsh(coarse - galerkin).min() > -1e-10 * coarse.abs().max()
