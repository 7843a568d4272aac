"""Statistics in one pass, and the map to mean 0 and deviation 1."""

from functools import reduce

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets import ArraySource, Moments, Normalizer
from datasets.normalize import fit


def fields(n=23, c=2, seed=0, offset=0.0):
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(n, c, 4, 5, generator=generator, dtype=torch.float64)
    return u * torch.tensor([1.0, 1e-3])[:c].view(-1, 1, 1) + offset


def whole(u):
    values = u.transpose(0, 1).flatten(1)
    return values.mean(dim=1), values.std(dim=1, unbiased=False)


@settings(max_examples=50, deadline=None)
@given(cuts=st.lists(st.integers(1, 22), max_size=5, unique=True), seed=st.integers(0, 99))
def test_merging_parts_in_any_order_gives_the_whole(cuts, seed):
    u = fields(seed=seed)
    parts = [Moments.of(part) for part in u.tensor_split(sorted(cuts))]
    mean, std = whole(u)
    for order in (parts, parts[::-1]):
        merged = reduce(Moments.merge, order)
        assert merged.count == 23 * 20
        torch.testing.assert_close(merged.mean, mean, rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(merged.std, std, rtol=1e-12, atol=0)


def test_merging_is_exact_where_the_arithmetic_is():
    """Integers: not one bit is lost, however unequal the parts are."""
    u = torch.arange(64.0, dtype=torch.float64).view(16, 1, 4)
    for cut in (4, 8, 12):
        merged = Moments.of(u[:cut]).merge(Moments.of(u[cut:]))
        assert merged.mean.item() == 31.5
        assert merged.m2.item() == (64**2 - 1) / 12 * 64


def test_a_large_mean_costs_no_digits():
    """The control is the textbook formula <u^2> - <u>^2, which loses them all."""
    u = fields(c=1, offset=1e9)
    merged = reduce(Moments.merge, [Moments.of(part) for part in u.split(4)])
    mean, std = whole(u)
    torch.testing.assert_close(merged.std, std, rtol=1e-6, atol=0)
    textbook = u.square().mean() - u.mean().square()
    assert abs(textbook - std.square()) > 0.1


def test_inverse_undoes_forward():
    u = fields(offset=7.0)
    normalizer = Normalizer.from_moments(Moments.of(u))
    v = normalizer(u)
    mean, std = whole(v)
    torch.testing.assert_close(mean, torch.zeros(2).double(), rtol=0, atol=1e-10)
    torch.testing.assert_close(std, torch.ones(2).double(), rtol=1e-12, atol=0)
    torch.testing.assert_close(normalizer.inverse(v), u, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("space", [(8,), (4, 5), (3, 4, 5)])
def test_any_number_of_dimensions(space):
    normalizer = Normalizer(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]))
    v = normalizer(torch.full((3, 2, *space), 5.0))
    assert v.dtype == torch.float32
    assert v[:, 0].unique().tolist() == [2.0] and v[:, 1].unique().tolist() == [0.75]


def test_half_precision_is_left_for_the_units():
    """A mean of 100 deviations takes all digits that bfloat16 has."""
    normalizer = Normalizer(torch.tensor([100.0]), torch.tensor([1.0]))
    v = torch.linspace(-1, 1, 64).view(1, 1, 64).bfloat16()
    u = normalizer.inverse(v)
    assert u.dtype == torch.float32
    torch.testing.assert_close(u - 100, v.float(), rtol=0, atol=1e-5)
    assert len((v * 1 + torch.tensor(100.0).bfloat16()).unique()) < 8  # control
    assert normalizer(u.bfloat16()).dtype == torch.bfloat16


def test_a_constant_channel_gets_deviation_one():
    constant = torch.full((4, 1, 8, 8), 0.1).double()
    normalizer = Normalizer.from_moments(Moments.of(constant))
    assert normalizer.std.tolist() == [1.0]
    assert normalizer(constant).abs().max() < 1e-15
    nearly = Moments(64, torch.tensor([1e3]).double(), torch.tensor([64e-12]).double())
    assert Normalizer.from_moments(nearly).std.tolist() == [1.0]
    small = Moments(64, torch.tensor([0.0]).double(), torch.tensor([64e-24]).double())
    assert Normalizer.from_moments(small).std.item() == pytest.approx(1e-12)


def test_it_is_saved_with_the_model():
    fitted = Normalizer.from_moments(Moments.of(fields(offset=3.0)))
    model = torch.nn.Sequential(
        Normalizer(torch.zeros(2).double(), torch.ones(2).double()), torch.nn.Identity()
    )
    u = fields()
    assert torch.equal(model(u), u)
    state = torch.nn.Sequential(fitted).state_dict()
    assert set(state) == {"0.mean", "0.std"}
    model.load_state_dict(state)
    assert torch.equal(model(u), fitted(u))
    assert not list(model.parameters())
    assert model.to("meta")[0].mean.device.type == "meta"


def test_fit_reads_a_source_once_in_batches():
    a, u = fields(offset=2.0).float(), fields(c=1, seed=1).float()
    source = ArraySource(a, u, ndim=2)
    for batch_size in (1, 7, 23, 100):
        normalizers = fit(source, batch_size=batch_size)
        for normalizer, field in zip(normalizers, (a, u), strict=True):
            mean, std = whole(field.double())
            torch.testing.assert_close(normalizer.mean, mean, rtol=1e-12, atol=1e-15)
            torch.testing.assert_close(normalizer.std, std, rtol=1e-12, atol=0)


class Unchecked:
    """A source that hands on what it has."""

    def __init__(self, source, spoil):
        self.source, self.metadata, self.spoil = source, source.metadata, spoil

    def __len__(self):
        return len(self.source)

    def __getitems__(self, indices):
        batch = self.source.__getitems__(indices)
        if 17 in indices:
            self.spoil(batch, list(indices).index(17))
        return batch


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_fit_names_sample_and_field_of_a_number_that_is_none(value):
    a, u = fields(), fields(c=1)
    names = {"input_names": ("speed", "depth"), "target_names": ("height",)}

    def source(spoil):
        return Unchecked(ArraySource(a, u, ndim=2, name="waves", **names), spoil)

    def second_input(batch, row):
        batch.input[row, 1, 2, 3] = value

    def target(batch, row):
        batch.target[row, 0, 0, 0] = value

    with pytest.raises(ValueError, match="waves: sample 17, field 'depth' holds NaN or infinity"):
        fit(source(second_input), batch_size=5)
    with pytest.raises(ValueError, match="waves: sample 17, field 'height' holds NaN or infinity"):
        fit(source(target), batch_size=5)


def test_without_the_guard_one_nan_spoils_all_statistics():
    u = fields()
    u[17, 1, 2, 3] = torch.nan
    assert Moments.of(u).std[1].isnan()


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"mean \(2,\) and std \(3,\) must both be \[channels\]"):
        Normalizer(torch.zeros(2), torch.ones(3))
    for mean, std in ((torch.nan, 1.0), (0.0, torch.inf), (0.0, -1.0)):
        with pytest.raises(ValueError, match="must be finite, std >= 0"):
            Normalizer(torch.tensor([mean]), torch.tensor([std]))
    with pytest.raises(ValueError, match=r"expected \[b, 2, \*space\], got \(3, 1, 4\)"):
        Normalizer(torch.zeros(2), torch.ones(2))(torch.zeros(3, 1, 4))


def test_an_empty_source_has_no_statistics():
    source = Unchecked(ArraySource(fields(), fields(c=1), ndim=2), None)
    source.source = []
    with pytest.raises(ValueError, match="arrays: no samples to fit a normaliser on"):
        fit(source)
