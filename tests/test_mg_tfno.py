"""MG-TFNO: symmetries of patches, levels, shared patches in two processes, refusals."""

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from sciml.layers import Patching
from sciml.models import MGTFNO, TFNO
from solvers.grid import Axis, Grid


def periodic(shape):
    return Grid.box(shape, boundary="periodic", points="left")


def small(grid, **settings):
    torch.manual_seed(0)
    settings = {"width": 6, "modes": 3, "depth": 2, "rank": 0.4, **settings}
    return MGTFNO(2, 1, grid.ndim, grid=grid, **settings).double()


def noise(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("levels", [0, 1, 2])
@pytest.mark.parametrize("shape", [(64,), (33, 32), (27, 25, 24)], ids=str)
def test_any_size_and_level(shape, levels):
    model = small(Grid.box(shape), levels=levels, modes=2)
    a = noise(2, 2, *shape)
    u = model(a)
    assert u.shape == (2, 1, *shape) and u.is_contiguous()
    u.square().mean().backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters())


def test_no_patches_on_a_periodic_grid_is_the_operator():
    model = small(periodic((16, 15)), levels=0, joint=False)
    plain = TFNO(2, 1, 2, grid=periodic((16, 15)), width=6, modes=3, depth=2, rank=0.4).double()
    plain.load_state_dict(model.operator.state_dict())
    a = noise(2, 2, 16, 15)
    torch.testing.assert_close(model(a), plain(a), rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape, levels", [((64,), 2), ((32, 24), 1)], ids=str)
def test_equivariant_to_translation_by_a_patch(shape, levels):
    """On periodic axes; by less than a patch it is not, since padding is finite."""
    model = small(periodic(shape), levels=levels)
    a = noise(2, 2, *shape)
    for axis, n in enumerate(shape):
        shift = n // 2**levels
        moved = model(a.roll(shift, 2 + axis))
        torch.testing.assert_close(moved, model(a).roll(shift, 2 + axis), rtol=0, atol=1e-13)
    assert (model(a.roll(1, 2)) - model(a).roll(1, 2)).abs().max() > 1e-6


def test_walls_break_equivariance_along_their_axis_alone():
    sides = ("periodic", "periodic")
    grid = Grid((Axis("x", 24, boundary=sides, points="left"), Axis("y", 24)))
    model = small(grid)
    a = noise(2, 2, 24, 24)
    torch.testing.assert_close(model(a.roll(12, 2)), model(a).roll(12, 2), rtol=0, atol=1e-13)
    assert (model(a.roll(12, 3)) - model(a).roll(12, 3)).abs().max() > 1e-6


def test_coarse_views_see_the_whole_domain():
    """At levels=1 a change anywhere reaches every patch; a level-0 window alone would not."""
    model = small(periodic((32,)), padding=0.0)
    a = noise(1, 2, 32).requires_grad_()
    model(a)[0, 0, :4].sum().backward()
    touched = a.grad.abs().sum(dim=(0, 1)) > 0
    assert touched[:16].all()  # its own patch
    assert touched[16:].reshape(8, 2).any(dim=1).sum() == 8  # every second point of the other


def test_the_same_function_on_a_finer_grid():
    """Of smooth fields, with walls: the outputs differ by what strides and padding round."""
    model = small(Grid.box((32, 32)), padding=0.125).eval()

    def output(n):
        x, y = Grid.box((n, n)).mesh()
        a = torch.stack((torch.sin(3 * x + y), torch.cos(2 * y)))[None]
        return model(a)[0, 0]

    with torch.no_grad():
        coarse, refined = output(32), output(96)[1::3, 1::3]  # cell centres of both
    assert (coarse - refined).norm() < 0.15 * (coarse - coarse.mean()).norm()


def test_all_layers_share_one_tensor():
    model = small(periodic((24, 24)), joint=True)
    assert [n for n in model.state_dict() if "tensor" in n][0].startswith("operator.tensor.")
    assert not [n for n in model.state_dict() if "convolution.weight" in n]


def test_parameter_count():
    """That of the TFNO on a patch: channels times levels + 1, and positions along walls."""
    model = MGTFNO(3, 1, 2, grid=Grid.box((64, 64)), levels=2, modes=8, padding=0.0625)
    plain = TFNO(18, 1, 2, grid=periodic((24, 24)), width=24, modes=8, joint=True)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in plain.parameters())


CASES = [
    {"levels": 2},
    {"levels": 1, "factorization": "cp", "joint": False},
    {"levels": 0},  # three patches for two processes
]


def loss_and_gradients(settings, share_patches):
    """Output and all gradients of one step on three samples."""
    model = small(Grid.box((25, 24)), modes=2, share_patches=share_patches, **settings)
    a = noise(3, 2, 25, 24).requires_grad_()
    u = model(a)
    (u * noise(3, 1, 25, 24)).sum().backward()
    return [u.detach(), a.grad, *(p.grad for p in model.parameters())]


def rank(number, world, file):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{file}", rank=number, world_size=world)
    for settings in CASES:
        alone = loss_and_gradients(settings, False)
        for found, expected in zip(loss_and_gradients(settings, True), alone, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        model = small(periodic((24,)), levels=0, share_patches=True)
        a = noise(1, 2, 24)  # one patch: the other processes have none
        u = model(a)
        model.share_patches = False
        torch.testing.assert_close(u, model(a))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_share_patches(tmp_path):
    """Output and all gradients in every process are those of one process alone."""
    multiprocessing.spawn(rank, (2, tmp_path / "meeting"), nprocs=2)


def test_sharing_needs_no_group():
    grid = Grid.box((25, 24))
    a = noise(2, 2, 25, 24)
    torch.testing.assert_close(small(grid, share_patches=True)(a), small(grid)(a))


def test_refusals():
    with pytest.raises(ValueError, match=r"modes=\(9, 9\) needs patches of at least \(18, 18\)"):
        small(periodic((32, 32)), modes=9, padding=0.0)
    with pytest.raises(ValueError, match="levels=3 needs at least 8 points"):
        small(Grid.box((7, 32)), levels=3)
    with pytest.raises(ValueError, match="ndim=1, but the grid has 2 axes"):
        MGTFNO(1, 1, 1, grid=Grid.box((32, 32)))
    with pytest.raises(ValueError, match=r"modes=\(3,\)"):
        small(periodic((32, 32)), modes=[3])
    with pytest.raises(ValueError, match=r"expected \[batch, 2 channels.*\(1, 3, 32, 32\)"):
        small(Grid.box((32, 32)))(torch.zeros(1, 3, 32, 32))


def test_patches_are_those_of_the_grid_at_hand():
    """421 points, the size of a published Darcy set, halved twice."""
    patching = Patching(Grid.box((421, 421)), 2, 0.02)
    assert patching.window == (106 + 16, 106 + 16)
    model = small(Grid.box((64, 64)), levels=2, modes=2)
    with torch.no_grad():
        assert model(noise(1, 2, 85, 61)).shape == (1, 1, 85, 61)
