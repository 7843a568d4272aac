"""Agreement with neuraloperator's FNO, and its models behind our interface."""

import pytest
import torch

from benchmarks.neuralop_weights import copy_weights
from sciml.models import FNO, Neuralop
from solvers.grid import Grid

WIDTH, LAYERS = 8, 2
SETTINGS = {
    "FNO": {"n_modes": 8, "hidden_channels": WIDTH, "n_layers": LAYERS},
    "TFNO": {
        "n_modes": 8,
        "hidden_channels": WIDTH,
        "n_layers": LAYERS,
        "factorization": "Tucker",
        "rank": 0.2,
    },
    "UNO": {
        "hidden_channels": WIDTH,
        "lifting_channels": 16,
        "projection_channels": 16,
        "n_layers": 3,
        "uno_out_channels": [8, 16, 8],
        "uno_n_modes": [8, 6, 8],
        "uno_scalings": [0.5, 1.0, 2.0],
        "channel_mlp_skip": "linear",
    },
}


def pair(ndim, size, modes=4, padding=0.0):
    torch.manual_seed(0)
    theirs = Neuralop(
        2, 3, ndim, architecture="FNO", settings=SETTINGS["FNO"] | {"n_modes": 2 * modes}
    ).model
    grid = Grid.box((size,) * ndim, points="left")
    ours = FNO(2, 3, ndim, grid=grid, width=WIDTH, modes=modes, depth=LAYERS, padding=padding)
    copy_weights(ours, theirs)
    return ours, theirs


@pytest.mark.parametrize("ndim, size, modes", [(1, 64, 8), (2, 32, 4), (2, 16, 8), (3, 12, 4)])
def test_same_output_and_gradients_on_even_grids(ndim, size, modes):
    """To 1e-5 of the norm, Nyquist mode (16 points, 8 modes) included."""
    ours, theirs = pair(ndim, size, modes)
    a = torch.randn(2, 2, *[size] * ndim)
    u, v = ours(a), theirs(a)
    assert (u - v).norm() < 1e-5 * v.norm()
    u.square().mean().backward()
    v.square().mean().backward()
    for mine, other in (
        (ours.blocks[0].skip.weight, theirs.fno_blocks.fno_skips[0].conv.weight),
        (ours.lifting[0].weight, theirs.lifting.fcs[0].weight),
        (ours.projection[2].weight, theirs.projection.fcs[1].weight),
    ):
        assert (mine.grad - other.grad.squeeze(-1)).norm() < 1e-4 * other.grad.norm()


def test_odd_grids_are_where_the_library_is_wrong():
    """A constant shift of a periodic field must shift the output: theirs does not on 17 points,
    ours does.
    """
    ours, theirs = pair(2, 17)
    theirs.positional_embedding = None
    a = torch.randn(1, 4, 17, 17)  # two fields in place of the coordinates

    def shifted(model):
        return (model(a.roll(3, 2)) - model(a).roll(3, 2)).norm() / model(a).norm()

    lone = FNO(
        4,
        3,
        2,
        grid=Grid.box((17, 17), boundary="periodic", points="left"),
        width=WIDTH,
        modes=4,
        depth=LAYERS,
    )
    lone.load_state_dict(ours.state_dict())
    assert shifted(lone) < 1e-5
    assert shifted(theirs) > 1e-3


@pytest.mark.parametrize("architecture", SETTINGS)
def test_checkpoints_of_the_librarys_models(architecture, tmp_path):
    """Nested in another module and loaded as weights only, which the bare model is not."""
    from neuralop.models import FNO as Bare

    build = lambda: torch.nn.Sequential(  # noqa: E731
        Neuralop(1, 1, 2, architecture=architecture, settings=SETTINGS[architecture])
    )
    model, other, file = build(), build(), tmp_path / "weights.pt"
    torch.save(model.state_dict(), file)
    other.load_state_dict(torch.load(file, weights_only=True))
    a = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(model(a), other(a))

    bare = torch.nn.Sequential(Bare((8, 8), 1, 1, WIDTH, n_layers=LAYERS))
    with pytest.raises(RuntimeError, match="_metadata"):  # control: the defect is there
        bare.load_state_dict(bare.state_dict())


def test_refusals():
    build = lambda name, settings=None, **grid: Neuralop(  # noqa: E731
        1, 1, 2, architecture=name, settings=settings or SETTINGS["FNO"], **grid
    )
    with pytest.raises(ValueError, match="GINO needs point clouds"):
        build("GINO")
    with pytest.raises(ValueError, match="no field-to-field model 'FNOO'.*'FNO'"):
        build("FNOO")
    with pytest.raises(ValueError, match=r"n_modes=\[20, 20\] is more than the grid \(16, 16\)"):
        build("FNO", SETTINGS["FNO"] | {"n_modes": 20}, grid=Grid.box((16, 16)))
    for shape in ((1, 2, 16, 16), (1, 1, 16)):
        with pytest.raises(ValueError, match=r"expected \[batch, 1 channels, 2 axes of points\]"):
            build("FNO")(torch.randn(shape))
    for modes in ([8], [8, 0], 0):
        with pytest.raises(ValueError, match="must be 2 numbers of at least 1"):
            build("FNO", SETTINGS["FNO"] | {"n_modes": modes})
    with pytest.raises(ValueError, match="the data decide on settings.in_channels"):
        build("FNO", SETTINGS["FNO"] | {"in_channels": 7})
    with pytest.raises(ValueError, match="neuralop refuses these settings of FNO with ZeroDiv"):
        build("FNO", SETTINGS["FNO"] | {"hidden_channels": 0})
    with pytest.raises(
        ValueError, match=r"UNO returned \(1, 1, 8, 8\) instead of \(1, 1, 16, 16\)"
    ):
        build("UNO", SETTINGS["UNO"] | {"uno_scalings": [0.5, 1.0, 1.0]})(torch.randn(1, 1, 16, 16))
    with pytest.raises(ValueError, match="CODANO maps variables to themselves"):
        Neuralop(2, 1, 2, architecture="CODANO", settings={})
