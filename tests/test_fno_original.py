"""FNO as published: parameter counts, and a dense reference by the full FFT."""

import pytest
import torch
from torch.nn.functional import gelu

from sciml.models import FNOOriginal
from solvers.grid import Grid


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_published_parameter_counts():
    line = Grid.box((1024,), boundary="periodic", points="left")
    square = Grid.box((85, 85), points="nodes")
    assert count(FNOOriginal(1, 1, 1, grid=line, width=64, modes=16)) == 549_569
    assert count(FNOOriginal(1, 1, 2, grid=square, width=32, modes=12)) == 2_368_001
    cube = Grid.box((20, 20, 20))  # 4 corners
    w, k = 8, 4
    blocks = 4 * (4 * 2 * w * w * k**3 + w * w + w)
    ends = 4 * w + w + w * 128 + 128 + 128 + 1
    assert count(FNOOriginal(1, 1, 3, grid=cube, width=w, modes=k)) == blocks + ends


@pytest.mark.parametrize("shape", [(17,), (14, 15), (8, 9, 10)], ids=str)
def test_agrees_with_full_ffts(shape):
    """Corners of the full real FFT, [:k] and [-k:], multiplied and transformed back."""
    torch.manual_seed(0)
    d, k, w = len(shape), 3, 4
    grid = Grid.box(shape, points="nodes")
    model = FNOOriginal(2, 1, d, grid=grid, width=w, modes=k, depth=2, hidden=5).double()
    for block in model.blocks:
        torch.nn.init.normal_(block.convolution.weight.entries)
    a = torch.randn(3, 2, *shape, dtype=torch.float64)
    mesh = torch.meshgrid(
        *(torch.linspace(0, 1, n, dtype=torch.float64) for n in shape), indexing="ij"
    )
    v = torch.cat((a, torch.stack(mesh).expand(3, -1, *shape)), dim=1)
    per_point = lambda layer, v: layer(v.movedim(1, -1)).movedim(-1, 1)  # noqa: E731
    v = per_point(model.lifting, v)
    box = Grid.box(shape, boundary="periodic", points="left")  # the published transform
    axes = tuple(range(2, 2 + d))
    for i, block in enumerate(model.blocks):
        full = torch.fft.rfftn(v, dim=axes)
        kept = [torch.tensor([*range(k), *range(-1, -k - 1, -1)]) for _ in shape[:-1]]
        index = torch.meshgrid(*kept, torch.arange(k), indexing="ij")
        out = torch.zeros_like(full)
        weight = block.convolution.weight.dense()
        picked = full[(slice(None), slice(None), *index)]
        mixed = torch.einsum("bi...,...io->bo...", picked, weight)
        out[(slice(None), slice(None), *index)] = mixed
        v = torch.fft.irfftn(out, s=shape, dim=axes) + per_point(block.skip, v)
        v = gelu(v) if i == 0 else v
    wanted = per_point(model.projection, v)
    as_published = FNOOriginal(2, 1, d, grid=box, width=w, modes=k, depth=2, hidden=5).double()
    as_published.load_state_dict(model.state_dict())
    with torch.no_grad():  # the published positions end in 1, those of a periodic grid do not
        scale = torch.tensor([n / (n - 1) for n in shape], dtype=torch.float64)
        as_published.lifting.weight[:, 2:] *= scale
    torch.testing.assert_close(as_published(a), wanted, rtol=0, atol=1e-12)


def test_starts_uniform():
    torch.manual_seed(0)
    model = FNOOriginal(1, 1, 1, grid=Grid.box((64,)), width=16, modes=16)
    entries = model.blocks[0].convolution.weight.entries
    assert entries.min() >= 0 and entries.max() <= 1 / 256
    assert abs(entries.mean().item() * 512 - 1) < 0.05


def test_refusals():
    with pytest.raises(ValueError, match=r"needs 2 axes of at least 24 points.*\(16, 32\)"):
        FNOOriginal(1, 1, 2, grid=Grid.box((16, 32)))
    with pytest.raises(ValueError, match="must be at least 1"):
        FNOOriginal(1, 1, 1, grid=Grid.box((32,)), depth=0)
