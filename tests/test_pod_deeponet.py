"""POD-DeepONet: the basis is that of the training targets, and of nothing else."""

from functools import partial

import numpy as np
import pytest
import torch

from datasets.build import instantiate
from datasets.normalize import Normalizer
from sciml.layers import PerceptronBranch
from sciml.layers.pod import decompose
from sciml.layers.quadrature import mean_weights
from sciml.models import PODDeepONet, prepare_model
from sciml.run import run
from sciml.runtime.run_folder import RunFolder
from solvers.grid import Axis, Grid
from tests.helpers import compose, save_pairs, smooth_pairs, weights
from tests.test_models import Samples, metadata

MIXED = Grid(
    (Axis("x", 8, 0.0, 2.0, ("periodic", "periodic"), "left"), Axis("y", 7, points="nodes"))
)


def samples(count, grid=MIXED, outs=2):
    """Inputs and targets with a decaying spectrum."""
    generator = torch.Generator().manual_seed(count)
    n = grid.shape[0] * grid.shape[1]
    decay = 2.0 ** -torch.arange(n, dtype=torch.float64)
    c = torch.randn(count, outs, n, generator=generator, dtype=torch.float64) * decay
    shapes = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]
    u = 3 + (c @ shapes.T).view(count, outs, *grid.shape)
    return torch.randn(count, 1, *grid.shape, generator=generator, dtype=torch.float64), u


def prepared(count=40, modes=6, outs=2):
    torch.manual_seed(0)
    branch = partial(PerceptronBranch, widths=(8,))
    model = PODDeepONet(1, outs, 2, grid=MIXED, modes=modes, branch=branch).double()
    a, u = samples(count, outs=outs)
    model.prepare([(a[:15], u[:15]), (a[15:], u[15:])])
    return model, a, u


def test_the_basis_is_the_svd_in_the_inner_product_of_the_grid():
    """By eigenvectors of the covariance, and orthonormal in the mean over the domain."""
    model, _, u = prepared()
    w = mean_weights(MIXED).flatten()
    for o in range(2):
        x = u[:, o].flatten(1)
        torch.testing.assert_close(model.mean[o].flatten(), x.mean(0))
        x = (x - x.mean(0)) * w.sqrt()
        values, vectors = torch.linalg.eigh(x.T @ x / len(x))
        phi = model.basis[o].flatten(1)
        gram = torch.einsum("kn,n,ln->kl", phi, w, phi)
        torch.testing.assert_close(gram, torch.eye(6, dtype=gram.dtype), rtol=0, atol=1e-12)
        found = decompose(u[:, o].flatten(1), w, 6)
        torch.testing.assert_close(found.deviations.square(), values.flip(0)[:6])
        cosines = ((phi * w.sqrt()) @ vectors.flip(1)[:, :6]).abs()
        torch.testing.assert_close(cosines, torch.eye(6, dtype=gram.dtype), rtol=0, atol=1e-9)


def test_the_error_of_projection_is_the_rest_of_the_spectrum():
    model, _, u = prepared()
    w = mean_weights(MIXED).flatten()
    for o in range(2):
        x, phi = u[:, o].flatten(1), model.basis[o].flatten(1)
        x = x - model.mean[o].flatten()
        rest = x - torch.einsum("bn,n,kn,km->bm", x, w, phi, phi)
        whole = torch.linalg.svdvals(x * w.sqrt()).square() / len(x)
        error = (rest.square() @ w).mean()
        torch.testing.assert_close(error, whole[6:].sum(), rtol=1e-8, atol=0)


def test_the_output_is_mean_and_modes():
    model, a, _ = prepared()
    b = model.branch(a, MIXED).view(-1, 2, 6)
    expected = model.mean + torch.einsum("bok,okxy->boxy", b, model.basis) / 6
    torch.testing.assert_close(model(a), expected)
    assert torch.linalg.matrix_rank(model(a)[:, 0].flatten(1)) <= 6 + 1


def test_points_and_grids_between():
    model, a, _ = prepared()
    points = MIXED.mesh().flatten(1).T
    torch.testing.assert_close(model.at(a, points), model(a).flatten(2), rtol=0, atol=1e-12)
    fine = MIXED.resized((16, 13))
    smooth = torch.ones(1, 1, *fine.shape, dtype=torch.float64)
    coarse = smooth[..., ::2, ::2]
    torch.testing.assert_close(model(smooth)[..., ::2, ::2], model(coarse))
    middle = (model(coarse)[..., :-1, :] + model(coarse)[..., 1:, :]) / 2
    torch.testing.assert_close(model(smooth)[..., 1:-1:2, ::2], middle)
    own = points.expand(40, -1, -1)[:, :9]
    torch.testing.assert_close(model.at(a, own), model(a).flatten(2)[..., :9])


def test_fewer_samples_than_modes_leave_zero_modes():
    """Four samples span three directions around their mean; equal targets span none."""
    model, a, u = prepared(4, modes=6)
    assert (model.basis[:, 3:] == 0).all() and (model.basis[:, :3].flatten(2).norm(dim=2) > 1).all()
    assert model(a).isfinite().all()
    same = decompose(u[:1, 0].flatten(1).expand(9, -1), mean_weights(MIXED).flatten(), 2)
    assert (same.deviations == 0).all() and (same.modes == 0).all()


def test_only_the_samples_that_are_shown_count():
    """Through `prepare_model`: normalised targets of the source, in several batches or one."""
    meta = metadata((12, 12))
    source = Samples(meta)
    branch = partial(PerceptronBranch, widths=(4,))
    model = PODDeepONet(1, 1, 2, grid=meta.grid, modes=3, branch=branch).double()
    mean, std = torch.tensor([0.5]), torch.tensor([4.0])
    prepare_model(model, source, Normalizer(torch.zeros(1), torch.ones(1)), Normalizer(mean, std))
    target = ((source.target[:, 0] - 0.5) / 4).flatten(1)
    expected = decompose(target, mean_weights(meta.grid).flatten(), 3)
    torch.testing.assert_close(model.basis[0].flatten(1), expected.modes)
    torch.testing.assert_close(model.mean[0].flatten(), expected.mean)


def test_a_run_takes_its_basis_from_the_training_split(tmp_path):
    """Neither from validation nor from test samples, whose targets are far off here."""
    a, u = smooth_pairs(40)
    paths = save_pairs(tmp_path / "data", a, u)
    shown = instantiate(compose(paths).data).source("train")
    rows = shown.__getitems__(range(len(shown))).input[:, 0].numpy()
    train = np.array([any(np.allclose(x, row, atol=1e-5) for row in rows) for x in a])
    assert 0 < train.sum() == len(shown) < 40
    save_pairs(tmp_path / "data", a, np.where(train[:, None, None], u, 5 * a))
    settings = ["model=pod_deeponet", "model.modes=4", "model.branch.widths=[8]"]
    config = compose([*paths, *settings, "trainer.max_epochs=1"])
    folder = RunFolder(tmp_path / "run")
    folder.write_config(config, settings)
    run(config, folder)
    target = torch.from_numpy(u[train]).flatten(1)
    target = (target - target.mean()) / target.std(correction=0)
    expected = decompose(target, mean_weights(Grid.box((12, 12))).flatten(), 4)
    found = {name.split(".")[-1]: value for name, value in weights(tmp_path / "run").items()}
    cosines = found["basis"][0].flatten(1).double() @ expected.modes.T / 144
    torch.testing.assert_close(cosines.abs(), torch.eye(4).double(), rtol=0, atol=1e-4)


def test_it_is_saved_with_the_weights():
    model, a, _ = prepared()
    other = PODDeepONet(1, 2, 2, grid=MIXED, modes=6, branch=partial(PerceptronBranch, widths=(8,)))
    assert (other(a.float()) == 0).all()
    other.double().load_state_dict(model.state_dict())
    assert torch.equal(other(a), model(a))
    assert {name for name, _ in model.named_buffers()} == {"mean", "basis"}


def test_refusals():
    with pytest.raises(ValueError, match=r"modes=57 must be from 1 to 56"):
        PODDeepONet(1, 1, 2, grid=MIXED, modes=57)
    model = PODDeepONet(1, 1, 2, grid=MIXED, modes=2)
    with pytest.raises(ValueError, match="no training samples"):
        model.prepare([])
    with pytest.raises(ValueError, match=r"targets \(1, 8, 8\) .* differ from the model's"):
        model.prepare([(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8))])
