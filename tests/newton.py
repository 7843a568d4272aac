"""Small problems for Gauss-Newton steps, and loops that make them."""

import torch
from torch import nn

from sciml.curvature.newton_cg import NewtonCG
from sciml.curvature.parameter_vector import ParameterVector
from sciml.gauss_newton import Expansion, Term
from sciml.losses import RelativeL2
from sciml.models import FNO
from solvers.grid import Grid
from tests.gauss_newton import Problem
from tests.helpers import smooth_pairs

EXACT = {"tolerance": 1e-13, "max_iterations": 500, "progress": None, "decay": 0.0}
GRID = Grid.box((8, 8), boundary="periodic", points="left")


def adamw(model: nn.Module, **options) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), **{"lr": 1e-2, "weight_decay": 0.0} | options)


def newton(problem, **options) -> NewtonCG:
    optimizer = NewtonCG(adamw(problem.model), **options)
    optimizer.attach(problem.model, problem.objective)
    return optimizer


def advance(problem, optimizer: NewtonCG, steps: int = 1) -> list[float]:
    """Losses before each step and after the last."""
    losses = []
    for _ in range(steps):
        problem.gradients()
        optimizer.step()
        losses.append(optimizer.report.before)
    return [*losses, problem.objective().value.item()]


def vector(model: nn.Module) -> torch.Tensor:
    return ParameterVector(model.parameters()).values()


def linear_problem() -> Problem:
    """Least squares with 3 (4 + 1) unknowns, badly scaled."""
    x = torch.randn(40, 4, 1) * torch.tensor([1.0, 10.0, 0.1, 3.0]).view(1, 4, 1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Unflatten(1, (3, 1)))
    return Problem(model, x, torch.randn(40, 3, 1))


def curved_problem(model: nn.Module | None = None) -> Problem:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model = model or nn.Sequential(*net, nn.Unflatten(1, (2, 1)))
    return Problem(model, torch.randn(12, 3, 1), torch.randn(12, 2, 1))


def operator_problem(samples: int = 6) -> Problem:
    model = FNO(1, 1, 2, grid=GRID, width=4, modes=2, depth=2).double()
    a, u = (torch.tensor(x[:, None]) for x in smooth_pairs(samples, (8, 8), 1))
    return Problem(model, a, u, RelativeL2())


class Residuals:
    """The loss |r(theta)|^2 / 2 of a function of one tensor."""

    def __init__(self, function, start):
        self.function, self.model = function, nn.ParameterList([torch.tensor(start)])

    @property
    def theta(self) -> torch.Tensor:
        return self.model[0]

    def objective(self, samples=None) -> Expansion:
        r = self.function(self.theta)[None]
        return Expansion(r.square().sum() / 2, [Term(r, torch.ones_like(r))])

    def gradients(self) -> None:
        self.theta.grad = None
        self.objective().value.backward()
