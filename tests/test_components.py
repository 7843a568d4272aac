import pytest
import scipy.sparse
import torch

from solvers.components import FloatingParts, label


def masks(*shape, share=0.6, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share


def graph_parts(mask, periodic):
    """Numbers of the connected parts of one sample, from the graph of its neighbours."""
    number = torch.arange(mask.numel()).view(mask.shape)
    edges = []
    for axis, wraps in enumerate(periodic):
        both = mask & mask.roll(1, axis)
        if not wraps:
            both.select(axis, 0)[:] = False
        edges.append(torch.stack([number[both], number.roll(1, axis)[both]]))
    here, there = torch.cat(edges, dim=1)
    graph = scipy.sparse.coo_array(
        (torch.ones(len(here)), (here, there)), shape=2 * (len(number.flatten()),)
    )
    _, part = scipy.sparse.csgraph.connected_components(graph, directed=False)
    return torch.from_numpy(part).view(mask.shape)


CASES = [
    ((30,), (True,)),
    ((17, 12), (False, True)),
    ((9, 14), (True, True)),
    ((6, 5, 7), (True, False, True)),
    ((8, 8), (False, False)),
    ((1, 9), (True, False)),
]


@pytest.mark.parametrize("space, periodic", CASES, ids=str)
def test_labels_are_those_of_the_graph(space, periodic):
    mask = masks(3, *space)
    labels, seen = label(mask, periodic), 0
    assert torch.equal(labels > 0, mask)
    for i in range(3):
        expected = graph_parts(mask[i], periodic)
        pairs = torch.stack([labels[i][mask[i]], expected[mask[i]]]).unique(dim=1)
        count = pairs.shape[1]
        assert len(pairs[0].unique()) == len(pairs[1].unique()) == count
        assert pairs[0].min() == seen + 1 and pairs[0].max() == seen + count
        seen += count


@pytest.mark.parametrize("space, periodic", CASES, ids=str)
def test_takes_out_the_mean_of_every_part_that_nothing_holds(space, periodic):
    mask = masks(2, *space)
    held = mask & masks(2, *space, share=0.1, seed=1)
    project = FloatingParts(mask, held, periodic)
    labels = label(mask, periodic)
    x = torch.randn(2, *space, dtype=torch.float64)
    expected = torch.where(mask, x, 0.0)
    for part in range(1, int(labels.max()) + 1):
        inside = labels == part
        if not (inside & held).any():
            expected[inside] -= x[inside].mean()
    torch.testing.assert_close(project(x), expected)
    torch.testing.assert_close(project(project(x)), expected)


def test_the_part_that_is_out_of_balance_is_named():
    mask = torch.ones(2, 4, 6, dtype=torch.bool)
    mask[1, :, 2] = False
    held = torch.zeros_like(mask)
    held[0, 0, 0] = True
    parts = FloatingParts(mask, held, (False, False))
    b = torch.ones(2, 4, 6).double()
    b[1, :2] = -1
    parts.require_balance(b, b.abs(), 1e-12)
    b[1, 3, 5] += 0.12
    parts.require_balance(b, b.abs(), 0.1)
    message = (
        r"sample 1 has a connected part of 12 cells .* sum to 9\.90e-03 of their sizes.*mean of f"
    )
    with pytest.raises(ValueError, match=message):
        parts.require_balance(b, b.abs(), 1e-12)


def test_an_empty_mask():
    none = torch.zeros(2, 3, 4, dtype=torch.bool)
    project = FloatingParts(none, none, (True, False))
    assert (project(torch.ones(2, 3, 4)) == 0).all()
    project.require_balance(torch.ones(2, 3, 4), torch.ones(2, 3, 4), 1e-9)
