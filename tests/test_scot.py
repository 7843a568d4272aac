"""scOT: its published sizes, its parts, the lead time, symmetries, any grid, refusals."""

import itertools

import pytest
import torch

from datasets.schema import Frames
from sciml.layers import ConditionalLayerNorm, ConvNeXtBlock, PatchMerging, PatchUnmerging
from sciml.models import ScOT
from solvers.grid import Axis, Grid

ROUND = ("periodic", "periodic")
LEAD = Frames(1, 1, 1, None, lead=1)


def small(grid, ins=2, frames=None, **settings):
    torch.manual_seed(0)
    defaults = {"width": 8, "depths": [2, 2], "heads": 2, "window": 4, "patch": 2, "skips": 1}
    return ScOT(ins, 1, grid.ndim, grid=grid, frames=frames, **defaults | settings).double()


def periodic(shape):
    return Grid.box(shape, boundary="periodic", points="left")


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize(
    "width, depth, count",
    [(48, 4, 20_774_444), (96, 8, 157_729_988), (192, 8, 628_575_524)],
    ids=["T", "B", "L"],
)
def test_published_sizes(width, depth, count):
    """Four fields in and out on 128 x 128 points: 21, 158 and 629 million, as published."""
    with torch.device("meta"):
        model = ScOT(4, 4, 2, grid=periodic((128, 128)), width=width, depths=[depth] * 4)
    assert sum(p.numel() for p in model.parameters()) == count


def test_size_by_hand():
    c, k, p, ins, outs, heads, hidden = 8, 2, 2, 2, 1, 2, 512
    norm = lambda n: 4 * n  # noqa: E731

    def block(n, h):
        attention = 4 * n * n + 3 * n + h + 3 * hidden + hidden * h
        return attention + 8 * n * n + 5 * n + 2 * norm(n)

    expected = ins * p**2 * c + c + norm(c)
    expected += 2 * (k * block(c, heads) + k * block(2 * c, 2 * heads))
    expected += 8 * c * c + norm(2 * c)  # merging
    expected += 8 * c * c + norm(c) + c * c  # unmerging
    expected += 49 * c + c + norm(c) + 8 * c * c + 5 * c + c  # ConvNeXt
    expected += c * outs * p**2 + outs + 25 * outs * outs
    assert sum(q.numel() for q in small(Grid.box((16, 16))).parameters()) == expected


def test_norm_is_layer_norm_with_affine_scale_and_shift():
    torch.manual_seed(0)
    norm = ConditionalLayerNorm(5).double()
    x, t = random(2, 3, 4, 5), random(2, 1)
    y = norm(x, t)
    for sample in range(2):
        scale = norm.scale.weight[:, 0] * t[sample] + norm.scale.bias
        shift = norm.shift.weight[:, 0] * t[sample] + norm.shift.bias
        z = x[sample] - x[sample].mean(dim=-1, keepdim=True)
        z = z / (z.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
        torch.testing.assert_close(y[sample], scale * z + shift)


@pytest.mark.parametrize("shape", [(8,), (4, 6), (2, 4, 6)], ids=str)
def test_merging_and_unmerging(shape):
    """Shapes, and which points meet which: a token sees its own box and no other."""
    n, t = len(shape), random(1, 1)
    half, double = [s // 2 for s in shape], [2 * s for s in shape]
    merge, unmerge = PatchMerging(3, n).double(), PatchUnmerging(6, n).double()
    x, y = random(1, *shape, 3), random(1, *shape, 6)
    assert merge(x, t).shape == (1, *half, 6)
    assert unmerge(y, t).shape == (1, *double, 3)
    first = (0, *[0] * n)
    moved = x.clone()
    moved[(0, *[slice(0, 2)] * n)] += random(3)
    change = (merge(moved, t) - merge(x, t)).abs().sum(dim=-1)
    assert change.count_nonzero() == 1 and change[first] > 0
    moved = y.clone()
    moved[first] += random(6)
    change = (unmerge(moved, t) - unmerge(y, t)).abs().sum(dim=-1)[0]
    box = set(itertools.product(range(2), repeat=n))
    assert {tuple(place) for place in change.nonzero().tolist()} == box


def test_convnext_starts_as_the_identity():
    block = ConvNeXtBlock(4, (True, False)).double()
    x, t = random(2, 6, 5, 4), random(2, 1)
    assert block.gamma.tolist() == pytest.approx([1e-6] * 4)
    change = block(x, t) - x
    assert 0 < change.abs().max() < 1e-5
    block.gamma.data.mul_(1e6)
    assert (block(x, t) - x - 1e6 * change).abs().max() < 1e-6


def test_lead_time_conditions_the_norms():
    model = small(Grid.box((16, 16)), frames=LEAD)
    assert model.embedding.in_channels == 1  # the lead time is no field
    a = random(1, 1, 16, 16).expand(3, 1, 16, 16)
    lead = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64).view(3, 1, 1, 1).expand_as(a)
    u = model(torch.cat((a, lead), dim=1))
    assert (u[0] - u[1]).abs().max() > 1e-3
    torch.testing.assert_close(u[1], u[2], rtol=1e-12, atol=1e-12)


def test_without_a_lead_time_it_is_one():
    with_lead, without = small(Grid.box((16,)), frames=LEAD), small(Grid.box((16,)), ins=1)
    without.load_state_dict(with_lead.state_dict())
    a = random(2, 1, 16)
    one = with_lead(torch.cat((a, torch.ones_like(a)), dim=1))
    torch.testing.assert_close(without(a), one, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(32,), (32, 16), (16, 16, 16)], ids=str)
def test_equivariant_to_shifts_by_the_coarsest_windows(shape):
    """A window of 4 tokens of 2 points, twice as many at the second level: 16 points."""
    model = small(periodic(shape))
    a = random(1, 2, *shape)
    moved = model(a.roll(16, 2))
    torch.testing.assert_close(moved, model(a).roll(16, 2), rtol=0, atol=1e-12)
    if shape[0] == 32:  # a control: the shift is not the whole period
        assert (model(a) - moved).abs().max() > 1e-3
    assert (model(a.roll(3, 2)) - model(a).roll(3, 2)).abs().max() > 1e-4


def test_walls_break_the_symmetry_of_their_axis_alone():
    grid = Grid((Axis("x", 32, boundary=ROUND, points="left"), Axis("y", 32)))
    model = small(grid)
    a = random(1, 2, 32, 32)
    torch.testing.assert_close(model(a.roll(16, 2)), model(a).roll(16, 2), rtol=0, atol=1e-12)
    assert (model(a.roll(16, 3)) - model(a).roll(16, 3)).abs().max() > 1e-4


def test_nothing_crosses_a_wall():
    """With blocks at one level alone, what the last points hold reaches the first only round."""
    for grid, crosses in ((Grid.box((48,)), False), (periodic((48,)), True)):
        model = small(grid, depths=[2])  # 24 tokens in windows of 4
        a = random(1, 2, 48)
        moved = a.clone()
        moved[:, :, -4:] += 1
        change = (model(moved) - model(a)).abs()[0, 0, :4]
        assert (change.max() > 1e-6) == crosses
        assert crosses or change.max() == 0


SIZES = [(16, 16), (30, 32), (48, 48), (64, 64), (85, 96), (130, 160), (141, 160), (421, 448)]


@pytest.mark.parametrize("size, expected", SIZES)
def test_sizes_that_windows_divide(size, expected):
    """Patches of 4 and three levels make 16. On 144 points the last has 9 tokens, which only 3
    divides; on 160 it has 10, in windows of 5.
    """
    model = small(Grid.box((64,)), depths=[1, 1, 1], window=8, patch=4)
    assert model._divisible(size) == expected


@pytest.mark.parametrize("size", [128, 256, 512])
def test_published_windows(size):
    """Sizes of the published kind are not enlarged."""
    assert ScOT(1, 1, 1, grid=Grid.box((size,)), depths=[1] * 4)._divisible(size) == size


def test_padding_is_cut_off_and_matters_little_inside():
    model = small(Grid.box((32, 32)))
    a = random(1, 2, 27, 31)
    padded = torch.nn.functional.pad(a, (0, 1, 0, 5))
    torch.testing.assert_close(model(a), model(padded)[:, :, :27, :31], rtol=0, atol=0)


def test_a_grid_smaller_than_its_windows():
    """One token at the coarsest level of a periodic axis: kernels go round more than once."""
    assert small(periodic((4, 6)))(random(1, 2, 4, 6)).shape == (1, 1, 4, 6)


def test_refusals():
    grid = Grid.box((16, 16))
    with pytest.raises(ValueError, match="width=9 must be a multiple of heads=2"):
        small(grid, width=9)
    with pytest.raises(ValueError, match="window=1 at least 2"):
        small(grid, window=1)
    with pytest.raises(ValueError, match="ndim=1, but the grid has 2 axes"):
        ScOT(1, 1, 1, grid=grid)
    with pytest.raises(ValueError, match=r"2 channels, 2 axes.*\(1, 2, 16\)"):
        small(grid)(random(1, 2, 16))


@pytest.mark.slow
def test_exports_with_any_batch_size():
    grid = Grid.box((20, 16))
    model, a = small(grid).eval(), random(3, 2, 20, 16)
    program = torch.export.export(model, (a,), dynamic_shapes=({0: torch.export.Dim("b")},))
    b = random(5, 2, 20, 16)
    torch.testing.assert_close(program.module()(b), model(b), rtol=1e-12, atol=1e-12)
