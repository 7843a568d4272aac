"""What every model of the catalogue keeps to, from its card and its configuration alone."""

import math

import pytest
import torch

from datasets.build import check_target
from datasets.normalize import Normalizer
from datasets.schema import Field, Frames, Metadata
from sciml.models import Surrogate, build_model, prepare_model
from sciml.models.catalogue import POINTS, entries
from solvers.grid import Grid
from tests.helpers import ROOT, compose

MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
OURS = [name for name in MODELS if not name.startswith("neuralop")]
DIMENSIONS = [
    (name, ndim)
    for name in OURS
    for ndim in check_target(compose([f"model={name}"]).model._target_).card.dimensions
]
SHAPES = {1: (64,), 2: (32, 32), 3: (16, 16, 16)}
# Overrides that make a model small, beside those of the grid.
SMALL = {
    "fno": ["model.width=4", "model.modes=3", "model.depth=2"],
    "mgno": ["model.width=4", "model.depth=2", "model.iterations=[[1,0],[1,1],[1,0],[2,0]]"],
    "unet": ["model.width=4", "model.multipliers=[1,2]"],
    "uno": ["model.channels=[4,6,8]", "model.modes=[3,2]"],
    "message_passing": ["model.hidden=8", "model.depth=2"],
    "st_fno": ["model.width=6", "model.modes=3", "model.depth=1", "model.latent_steps=4"],
    "mg_tfno": ["model.width=6", "model.modes=3", "model.depth=2", "model.rank=0.3"],
    "tfno": ["model.width=6", "model.modes=3", "model.depth=2", "model.rank=0.3"],
    "deeponet": ["model.features=4", "model.branch.widths=[8]", "model.trunk.widths=[8]"],
    "deeponet_cnn": ["model.features=4", "model.branch.channels=[2,4]", "model.trunk.widths=[8]"],
    "deeponet_fourier": ["model.features=4", "model.branch.modes=3", "model.trunk.widths=[8]"],
    "mionet": ["model.features=4", "model.branch.widths=[8]", "model.trunk.widths=[8]"],
    "multionet": ["model.width=8", "model.depth=2"],
    "pod_deeponet": ["model.modes=4", "model.branch.widths=[8]"],
    "lsm": ["model.width=8", "model.patch=2", "model.levels=2", "model.basis=4"],
    "scot": [
        "model.width=8",
        "model.heads=2",
        "model.depths=[2,2]",
        "model.window=4",
        "model.skips=1",
    ],
    "fully_connected": ["model.hidden=[8,6]"],
    "fno_original": ["model.width=4", "model.modes=3", "model.depth=2", "model.hidden=8"],
}


def metadata(shape, ins=1, outs=1, boundary="dirichlet", points="cells", window=None):
    grid = Grid.box(shape, boundary=boundary, points=points)
    return Metadata(
        "test",
        tuple(Field(f"a{i}") for i in range(ins)),
        tuple(Field(f"u{i}") for i in range(outs)),
        grid,
        window=window,
    )


def build(name, meta, double=True):
    torch.manual_seed(0)
    model = build_model(compose([f"model={name}", *SMALL.get(name, [])]).model, meta)
    model = model.double() if double else model
    prepare_model(
        model,
        Samples(meta),
        *(Normalizer(torch.zeros(c), torch.ones(c)) for c in (meta.in_channels, meta.out_channels)),
    )
    return model


def field(count, channels, shape):
    """Smooth random fields."""
    x = torch.meshgrid(*(torch.arange(n) / n for n in shape), indexing="ij")
    generator = torch.Generator().manual_seed(1)
    u = torch.zeros(count, channels, *shape, dtype=torch.float64)
    for k in range(1, 4):
        weights = torch.randn(count, channels, 2, generator=generator, dtype=torch.float64)
        phase = 2 * math.pi * k * sum(x).double()
        u += torch.einsum("bcp,p...->bc...", weights, torch.stack((phase.sin(), phase.cos())))
    return u


class Samples:
    """Twenty pairs of smooth fields."""

    def __init__(self, meta):
        self.metadata = meta
        self.input = field(20, meta.in_channels, meta.grid.shape)
        self.target = field(20, meta.out_channels, meta.grid.shape) ** 2

    def __len__(self):
        return 20

    def __getitems__(self, indices):
        from datasets.schema import Batch

        rows = list(indices)
        mesh = self.metadata.grid.mesh(torch.float32)
        return Batch(self.input[rows], self.target[rows], torch.zeros(len(rows), 0), mesh)


@pytest.mark.parametrize("name, ndim", DIMENSIONS)
def test_shape_and_gradient(name, ndim):
    """Every parameter gets a finite gradient that agrees with a difference of the loss."""
    shape = SHAPES[ndim]
    model = build(name, metadata(shape, 2, 3))
    a = field(3, 2, shape)
    u = model(a)
    assert u.shape == (3, 3, *shape) and u.dtype == torch.float64
    weight = torch.randn(u.shape, dtype=u.dtype, generator=torch.Generator().manual_seed(2))
    (u * weight).sum().backward()
    parameters = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
    directions = [torch.randn(p.shape, dtype=p.dtype) for p in parameters]
    slope = sum((p.grad * d).sum() for p, d in zip(parameters, directions, strict=True))

    def moved(step):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p += step * d
            value = (model(a) * weight).sum()
            for p, d in zip(parameters, directions, strict=True):
                p -= step * d
        return value

    difference = (moved(1e-8) - moved(-1e-8)) / 2e-8  # few kinks of ReLU and maxima between
    torch.testing.assert_close(slope, difference, rtol=1e-4, atol=1e-5 * float(weight.norm()))


@pytest.mark.parametrize("boundary", ["periodic", "dirichlet", "neumann", "open"])
@pytest.mark.parametrize("name", OURS)
def test_every_kind_of_sides(name, boundary):
    meta = metadata(
        (32, 32), boundary=boundary, points="left" if boundary == "periodic" else "cells"
    )
    model = build(name, meta)
    assert model(field(2, 1, (32, 32))).isfinite().all()


@pytest.mark.parametrize("name", OURS)
def test_samples_do_not_see_each_other(name):
    model = build(name, metadata((32, 32))).eval()
    a = field(4, 1, (32, 32))
    torch.testing.assert_close(model(a)[1:2], model(a[1:2]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", OURS)
def test_other_grids_where_promised(name):
    """A field that all grids hold gives much the same output on them; otherwise a clear refusal."""
    model = build(name, metadata((32, 32))).eval()
    with torch.no_grad():
        if not type(model).card.any_resolution:
            with pytest.raises(ValueError, match=r"32.*48|48.*32"):
                model(field(2, 1, (48, 48)))
            return
        for shape in ((48, 48), (40, 33), (33, 64)):
            assert model(field(2, 1, shape)).shape == (2, 1, *shape)


@pytest.mark.parametrize("name", OURS)
def test_wrong_input_is_refused(name):
    model = build(name, metadata((32, 32), 2))
    for shape in ((2, 3, 32, 32), (2, 2, 32), (2, 2, 32, 32, 32)):
        with pytest.raises(ValueError, match=r"2 channels"):
            model(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize("name", OURS)
def test_frames_of_a_window(name):
    """Two frames of one field and a constant in, three frames out."""
    meta = metadata((32, 32), 3, 3, window=Frames(2, 3, 1, 0.1))
    assert build(name, meta)(field(2, 3, (32, 32))).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded(name, tmp_path):
    ins = 2
    meta = metadata((32, 32), ins, 2, boundary="periodic", points="left")
    config = compose([f"model={name}", *SMALL.get(name, [])]).model
    from omegaconf import OmegaConf

    model = build(name, meta, double=False)
    one = Normalizer(torch.zeros(2), torch.ones(2))
    surrogate = Surrogate(model, one, one, meta, OmegaConf.to_container(config)).eval()
    a = field(2, 2, (32, 32)).float()
    loaded = Surrogate.load(surrogate.save(tmp_path))
    with torch.no_grad():
        assert torch.equal(loaded(a), surrogate(a))


@pytest.mark.parametrize("name", OURS)
def test_a_few_steps_lower_the_loss(name):
    """Five steps of AdamW in float32 lower the loss on its own batch."""
    meta = metadata((32, 32), 2, 2, boundary="periodic", points="left")
    model = build(name, meta, double=False).train()
    a, u = field(4, 2, (32, 32)).float(), field(4, 2, (32, 32)).float() ** 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = (model(a) - u).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_catalogue_lists_every_model(ndim):
    listed = list(entries(ndim))
    assert [entry.name for entry in listed] == MODELS
    for entry in listed:
        nearest = min(entry.card.dimensions, key=lambda d: abs(d - ndim))
        assert entry.shape == (POINTS[nearest],) * nearest and entry.parameters > 0
    if ndim != 2:
        return
    fno = next(entry for entry in listed if entry.name == "fno")
    assert fno.parameters == 1_021_321 and fno.shape == (POINTS[2],) * 2


def test_the_page_of_models_names_all_of_them():
    text = (ROOT / "docs" / "models.md").read_text()
    assert [name for name in OURS if f"`{name}`" not in text] == []
