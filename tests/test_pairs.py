"""Parameters as complex numbers and as matrices."""

import pytest
import torch
from torch import nn

from sciml.curvature.adamw import adamw
from sciml.curvature.matrices import Matrices
from sciml.curvature.pairs import layouts
from sciml.curvature.soap import SpectralSOAP
from sciml.layers import CPWeight, DenseWeight, JointWeights, TensorTrainWeight, TuckerWeight
from sciml.layers.spacetime import SpectralOutput
from sciml.models import FNO
from tests.complex_steps import random

DENSE = DenseWeight((3, 2), 4, 5)
TUCKER = TuckerWeight((3, 2), 4, 5, rank=[2, 2, 3, 3])
TRAIN = TensorTrainWeight((3, 2), 4, 5, rank=[3, 3, 2])
CP = CPWeight((3, 2), 4, 5, rank=[3])
OUTPUT = SpectralOutput(4, (2, 1))
CONV, GROUPED = nn.Conv2d(4, 6, 3), nn.Conv1d(4, 6, 3, groups=2)
TRANSPOSED = nn.ConvTranspose2d(4, 6, 2)
NORM, LINEAR = nn.LayerNorm([4, 3]), nn.Linear(4, 5)
EVERYTHING = nn.ModuleList(
    [DENSE, TUCKER, TRAIN, CP, OUTPUT, CONV, GROUPED, TRANSPOSED, NORM, LINEAR]
)
SHAPES = {
    "dense": (DENSE.entries, (6, 4, 5)),
    "core": (TUCKER.core, (4, 3, 3)),
    "tucker factor": (TUCKER.factors[2], (1, 4, 3)),
    "cp factor": (CP.factors[0], (1, 3, 3)),
    "first core of a train": (TRAIN.cores[0], (1, 4, 3)),
    "core of a train": (TRAIN.cores[1], (1, 3, 15)),
    "last core of a train": (TRAIN.cores[3], (1, 2, 2)),
    "convolution": (CONV.weight, (1, 6, 36)),
    "groups": (GROUPED.weight, (2, 3, 6)),
    "transposed": (TRANSPOSED.weight, (1, 4, 24)),
    "linear": (LINEAR.weight, (1, 5, 4)),
    "bias": (LINEAR.bias, None),
    "scale": (NORM.weight, None),
    "spectral bias": (OUTPUT.bias, None),
    "a side of one": (nn.Parameter(torch.ones(1, 4, 1, 1)), None),
    "foreign": (nn.Parameter(torch.ones(4, 5, 3, 2, dtype=torch.complex64)), (6, 4, 5)),
    "foreign factor": (nn.Parameter(torch.ones(4, 5, dtype=torch.complex64)), (1, 4, 5)),
}


@pytest.fixture(scope="module")
def optimizer():
    optimizer = SpectralSOAP(EVERYTHING.parameters())
    optimizer.attach(EVERYTHING, None)
    return optimizer


@pytest.mark.parametrize("case", SHAPES)
def test_shapes(optimizer, case):
    p, shape = SHAPES[case]
    stack = Matrices.of(p, optimizer.layout(p))
    assert (None if stack is None else stack.shape) == shape


@pytest.mark.parametrize("case", [case for case, (_, shape) in SHAPES.items() if shape])
def test_split_undoes_join(optimizer, case):
    p, shape = SHAPES[case]
    x = torch.randn(torch.view_as_real(p).shape if p.is_complex() else p.shape)
    stack = Matrices.of(p, optimizer.layout(p))
    matrices = stack.join(x)
    assert matrices.shape == shape
    assert matrices.is_complex() == optimizer.layout(p).is_pair
    assert torch.equal(stack.split(matrices.clone()), x)


def test_pairs_of_a_model():
    """Those that the model itself reads as complex numbers, and no others."""
    for weight in (DenseWeight, TuckerWeight, CPWeight, TensorTrainWeight):
        model = FNO(1, 1, 1, width=4, modes=3, depth=2, weight=weight)
        found = {key for key, layout in layouts(model).items() if layout.is_pair}
        inside = {id(p) for n, p in model.named_parameters() if "convolution.weight" in n}
        assert found == inside


def test_a_tensor_for_all_layers():
    joint = JointWeights(TuckerWeight, 2)
    model = FNO(1, 1, 1, width=4, modes=3, depth=2, weight=joint)
    model.tensor = joint.tensor
    pairs = {key for key, layout in layouts(model).items() if layout.is_pair}
    assert pairs == {id(p) for p in joint.tensor.parameters()}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_is_torch_s_for_real_numbers(weight_decay):
    start = [random(4, seed=s, dtype=torch.float64) for s in range(3)]
    mine, theirs = ([nn.Parameter(x.clone()) for x in start] for _ in range(2))
    settings = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-3, "weight_decay": weight_decay}
    reference, states = torch.optim.AdamW(theirs, **settings), [{} for _ in mine]
    for step in range(5):
        for i, (p, q) in enumerate(zip(mine, theirs, strict=True)):
            p.grad = q.grad = random(4, seed=10 * step + i, dtype=torch.float64)
        with torch.no_grad():
            adamw(mine, states, [False] * 3, **settings)
        reference.step()
    for p, q in zip(mine, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-13, atol=1e-13)


def phases_turn(pairs: bool) -> float:
    """How far steps of turned complex numbers are from turned steps."""
    G, turn = random(6, 4, seed=3), torch.polar(torch.ones(4), torch.arange(4.0)).to(torch.cfloat)
    ends = []
    for factor in (torch.ones(4), turn):
        p, state = nn.Parameter(torch.zeros(4, 2)), {}
        for g in G.to(torch.cfloat):
            p.grad = torch.view_as_real(g * factor)
            with torch.no_grad():
                settings = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.0}
                adamw([p], [state], [pairs], **settings)
        ends.append(torch.view_as_complex(p.detach()))
    return float((ends[1] - ends[0] * turn).abs().max())


def test_adamw_of_pairs_follows_phases():
    assert phases_turn(True) < 1e-6
    assert phases_turn(False) > 1e-2  # parts by themselves do not
