"""Recipes with solvers from outside: what they give is what was asked for, or is refused."""

import os
import shutil
import subprocess

import numpy as np
import pytest
import torch

from datasets import ShardedTrajectories
from datasets.build import instantiate
from datasets.generate import generate
from datasets.recipe import sample_generator
from datasets.shards import GenerationError
from datasets.simulation import Simulated
from datasets.stream import SimulationRecipe
from datasets.stream.solver import Request, SimulationError
from solvers import LogUniform, Uniform
from solvers.grid import Grid
from tests.helpers import ROOT, compose, finish

COUNTS = {"train": 3, "valid": 1, "test": 1}


class Moving:
    """u = a + k dt x and v = its gradient, in one array each that is used again and again."""

    name = "moving"

    def __init__(self, spoil=None):
        self.spoil, self.requests, self.closed = spoil, [], 0

    def __call__(self, request):
        self.requests.append(request)
        u, v = np.zeros(request.shape), np.zeros((2, *request.shape))
        try:
            for k in range(request.num_steps + 1):
                u[...] = request.parameters["a"] + k
                v[0], v[1] = k, -k
                frame = (k * request.dt, {"u": u, "v": v})
                if self.spoil is None or k != 2:
                    yield frame
                else:
                    yield from self.spoil(*frame)
        finally:
            self.closed += 1


def recipe(solver=None, **changes):
    settings = {
        "fields": [{"name": "u"}, {"name": "v", "components": 2}],
        "num_steps": 4,
        "dt": 0.1,
        "version": 3,
        "provenance": {"source": "test"},
        "parameters": {"a": Uniform(0, 1), "b": LogUniform(1, 2)},
    } | changes
    return SimulationRecipe("made", Grid.box((2, 2)), solver or Moving(), **settings)


def generator(index=0):
    return sample_generator(0, "train", index)


def test_frames_are_those_of_the_solver_and_copied():
    solver = Moving()
    made = recipe(solver)
    simulation = made.simulate(generator(), (3, 4))
    assert isinstance(made, Simulated) and solver.requests == []
    frames = list(simulation.frames)
    a = simulation.parameters["a"]
    assert simulation.constants.shape == (0, 3, 4) and len(frames) == 5
    for k, frame in enumerate(frames):
        assert frame.dtype == torch.float32 and frame.shape == (3, 3, 4)
        expected = torch.tensor([a + k, k, -k], dtype=torch.float32)
        assert torch.equal(frame, expected[:, None, None].expand(3, 3, 4))
    [request] = solver.requests
    assert request.shape == (3, 4) and request.num_steps == 4 and request.dt == 0.1
    assert request.fields == {"u": (3, 4), "v": (2, 3, 4)} and 0 <= request.seed < 2**63
    assert solver.closed == 1


def test_what_is_drawn_follows_from_the_generator_and_given_replaces_it():
    solver = Moving()
    made = recipe(solver)
    drawn = generator()
    expected = {
        "a": float(Uniform(0, 1).sample([drawn])),
        "b": float(LogUniform(1, 2).sample([drawn])),
    }
    seed = int(torch.randint(2**63 - 1, (), generator=drawn))
    for given in (None, {"a": 5.0}, {"b": 1.5, "a": 0}):
        simulation = made.simulate(generator(), (3, 4), given)
        assert simulation.parameters == {**expected, **(given or {})}
        next(simulation.frames)
    assert [request.seed for request in solver.requests] == [seed] * 3
    with pytest.raises(ValueError, match=r"made has no parameters \['c'\]; it has \['a', 'b'\]"):
        made.simulate(generator(), (3, 4), {"c": 1.0})


def test_the_solution_is_made_of_the_same_frames():
    made = recipe()
    solution = made.solve([generator(i) for i in range(3)], (3, 4))
    assert solution.fields["u"].shape == (3, 5, 3, 4)
    assert solution.fields["v"].shape == (3, 5, 2, 3, 4)
    for i in range(3):
        simulation = made.simulate(generator(i), (3, 4))
        frames = torch.stack(list(simulation.frames))
        assert torch.equal(solution.fields["u"][i], frames[:, 0])
        assert torch.equal(solution.fields["v"][i], frames[:, 1:])
        assert solution.parameters["b"][i] == simulation.parameters["b"]
    assert (solution.residual <= solution.tolerance).all()


def test_metadata():
    metadata = recipe().metadata((3, 4))
    assert metadata.describe() == "5 frames of u, v on 3 x 4, dt 0.1"
    assert metadata.parameters == ("a", "b") and metadata.provenance["solver"] == "moving"
    assert recipe().solver == {"name": "moving", "version": 3, "parameters": {"dt": 0.1}}


def nan(t, fields):
    fields["v"][1, 0, 0] = np.nan
    yield t, fields


def repeat(t, fields):
    while True:
        yield t, fields


@pytest.mark.parametrize(
    "spoil, expected",
    [
        (nan, "field 'v' of frame 2 holds NaN, infinity or numbers above largest=1e.10"),
        (lambda t, f: [(t, {**f, "u": f["u"] + 1e11})], "field 'u' of frame 2 .* raise largest"),
        (lambda t, f: [(t + 1e-6, f)], "the time of frame 2 is 0.200001, expected 0.2: frames lie"),
        (lambda t, f: [(None, f)], "the time of frame 2 is None, expected 0.2"),
        (lambda t, f: [(t, {"u": f["u"]})], r"frame 2 has the fields \['u'\], expected \['u', 'v'"),
        (lambda t, f: [(t, {**f, "v": f["u"]})], r"'v' of frame 2 is float64 \(3, 4\), .* \(2, 3"),
        (lambda t, f: [(t, {**f, "u": f["u"] * 1j})], "frame 2 is complex128"),
        (lambda t, f: [f], "frame 2 is dict, expected a time and a mapping"),
        (lambda t, f: [None], "frame 2 is NoneType, expected a time and a mapping"),
        (lambda t, f: [], "the time of frame 2 is 0.3.*, expected 0.2"),
        (repeat, "the time of frame 3 is 0.2, expected 0.3"),
    ],
    ids=range(11),
)
def test_a_wrong_frame_is_refused_and_the_solver_ended(spoil, expected):
    solver = Moving(spoil)
    with pytest.raises(SimulationError, match=f"^moving: .*{expected}"):
        list(recipe(solver).simulate(generator(), (3, 4)).frames)
    assert solver.closed == 1


def test_too_few_and_too_many_frames():
    def wrong(count):
        def solver(request: Request):
            for k in range(count):
                yield k * request.dt, {"u": np.zeros(request.shape)}

        solver.name = "wrong"
        return recipe(solver, fields=[{"name": "u"}]).simulate(generator(), (3, 4)).frames

    assert len(list(wrong(5))) == 5
    with pytest.raises(SimulationError, match="wrong: ended after 3 frames, expected 5: .* 0.4"):
        list(wrong(3))
    with pytest.raises(SimulationError, match="wrong: gives more than the 5 frames"):
        list(wrong(10**9))


def test_a_solver_is_ended_when_its_frames_are_closed():
    solver = Moving()
    frames = recipe(solver).simulate(generator(), (3, 4)).frames
    next(frames)
    assert solver.closed == 0
    frames.close()
    assert solver.closed == 1


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"num_steps": 0}, "num_steps=0 must be at least 1"),
        ({"dt": 0.0}, "dt=0.0 and .* positive"),
        ({"largest": -1.0}, "largest=-1.0 positive"),
        ({"fields": []}, r"expected different names, at least one, got \[\]"),
        ({"fields": [{"name": "u"}, {"name": "u"}]}, r"different names, .* got \['u', 'u'\]"),
        ({"parameters": {"dt": Uniform(0, 1)}}, "'dt' must consist of .* be none of seed"),
        ({"parameters": {"a b": Uniform(0, 1)}}, "'a b' must consist of letters"),
    ],
)
def test_wrong_settings(changes, expected):
    with pytest.raises(ValueError, match=expected):
        recipe(**changes)


def composed(name, **solver):
    from omegaconf import OmegaConf

    pde = OmegaConf.to_container(compose([f"data={name}"]).data.pde, resolve=True)
    pde["solver"] |= solver
    return {k: v for k, v in pde.items() if k not in ("resolution", "counts")}


@pytest.fixture(scope="module")
def heat_rod(tmp_path_factory):
    """The compiled example."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    path = tmp_path_factory.mktemp("heat_rod") / "heat_rod"
    source = ROOT / "docs" / "examples" / "heat_rod.c"
    subprocess.run(["cc", "-O2", "-o", str(path), str(source), "-lm"], check=True)
    return str(path)


def uniform(state):
    """The next number of splitmix64, in [0, 1), and its state."""
    mask = 2**64 - 1
    state = z = (state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return ((z ^ (z >> 31)) >> 11) / 2**53, state


def rod(request):
    """The scheme of docs/examples/heat_rod.c, [t, n]."""
    [n], seed, a = request.shape, request.seed, request.parameters["diffusivity"]
    dx, i, u = 1 / (n - 1), np.arange(n), np.zeros(n)
    for mode in range(1, 5):
        chance, seed = uniform(seed)
        u += (2 * chance - 1) * np.sin(mode * np.pi * i * dx)
    u[0] = u[-1] = 0
    substeps = int(np.ceil(request.dt * a / (0.25 * dx * dx)))
    r, frames = a * (request.dt / substeps) / (dx * dx), [u.copy()]
    for _ in range(request.num_steps):
        for _ in range(substeps):
            u[1:-1] += r * (u[:-2] - 2 * u[1:-1] + u[2:])
        frames.append(u.copy())
    return np.stack(frames)


def test_the_c_example_is_its_scheme_in_double_precision(heat_rod):
    solver = instantiate(composed("program", command=[heat_rod])["solver"])
    request = Request({"diffusivity": 0.0123}, 2**63 - 5, (33,), 6, 0.05, {"temperature": (33,)})
    frames = list(solver(request))
    assert [t for t, _ in frames] == [step * 0.05 for step in range(7)]
    found = np.stack([fields["temperature"] for _, fields in frames])
    np.testing.assert_allclose(found, rod(request), rtol=0, atol=1e-13)
    modes = np.sin(np.pi * np.outer(np.arange(1, 5), np.linspace(0, 1, 33)))
    amplitudes = found @ modes.T / 16
    decay = np.exp(-0.0123 * (np.pi * np.arange(1, 5)) ** 2 * 0.3)
    np.testing.assert_allclose(amplitudes[-1], amplitudes[0] * decay, rtol=0.02)


@pytest.mark.parametrize("name", ["program", "python"])
def test_the_data_set_holds_what_streams(name, heat_rod, tmp_path):
    """Whole path: configuration, worker processes, shards; and the same frames one by one."""
    solver = {"command": [heat_rod]} if name == "program" else {}
    config = composed(name, **solver)
    folder = generate(config, tmp_path, COUNTS, resolution=33, num_workers=2, progress=False)
    made = instantiate(config)
    data = ShardedTrajectories(folder, "train")
    for index in range(3):
        simulation = made.simulate(generator(index), (33,))
        frames = torch.stack(list(simulation.frames))
        assert torch.equal(data.read(index, slice(0, 21)), frames)
        numbers = torch.tensor(list(simulation.parameters.values()))
        torch.testing.assert_close(data.parameters(index), numbers)
    assert not torch.equal(data.read(0, slice(0, 1)), data.read(1, slice(0, 1)))


def test_the_python_example_solves_its_equation():
    made = instantiate(composed("python"))
    simulation = made.simulate(generator(), (64,), {"mass": 3.0})
    u, v = torch.stack(list(simulation.frames)).double().unbind(1)
    k = 2 * torch.pi * 64 * torch.fft.fftfreq(64, dtype=torch.float64)
    u_x = torch.fft.ifft(1j * k * torch.fft.fft(u)).real
    energy = (v.square() + u_x.square() + 9 * u.square()).mean(1)
    torch.testing.assert_close(energy, energy[:1].expand(21), rtol=1e-5, atol=0)
    assert (u[-1] - u[0]).abs().max() > 0.1


def test_a_model_is_trained_on_a_program(heat_rod, tmp_path, no_report):
    figures = finish(
        tmp_path / "run",
        "data=program",
        f"data.pde.solver.command=[{heat_rod}]",
        f"data_dir={tmp_path}",
        "data.resolution=17",
        "data.counts={train: 4, valid: 1, test: 1}",
        "data.num_workers=0",
    )
    assert figures["status"] == "completed" and np.isfinite(figures["test/relative_l2"])


def test_a_sample_that_fails_is_named(tmp_path):
    config = composed("program", command=["./no_such_program"])
    with pytest.raises(
        GenerationError,
        match="train sample 0 cannot be made: SimulationError: ./no_such_program cannot be",
    ):
        generate(config, tmp_path, COUNTS, resolution=33, progress=False)
    assert not list(tmp_path.rglob("*.h5")) and os.listdir(tmp_path)
