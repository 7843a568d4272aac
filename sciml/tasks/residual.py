"""By how much fields miss the equation that the recipe of their data names."""

from functools import lru_cache
from typing import Literal, Protocol

import torch
from torch import Tensor

from datasets.evolution_recipe import EvolutionRecipe
from datasets.recipe import Recipe, SteadyRecipe
from datasets.schema import Frames, Metadata
from datasets.steps import require_closed
from solvers.evolution import Evolution, frames

Time = Literal["trapezoid", "solver"]


class Residual(Protocol):
    """What an equation leaves over, [b, c, *space], in its own units."""

    def __call__(self, a: Tensor, u: Tensor, parameters: Tensor) -> Tensor:
        """Of predictions u [b, c_out, *space] for inputs a [b, c_in, *space], parameters [b, p]."""
        ...

    def trivial(self, a: Tensor, u: Tensor) -> Tensor:
        """The prediction, in the shape of u, whose residual is a scale for others."""
        ...


class SteadyResidual:
    """residual(a, u) of the steady solver of a recipe; for Darcy, -div(a grad u) - f."""

    def __init__(self, recipe: SteadyRecipe):
        self._solver = lru_cache(recipe.on)

    def __call__(self, a: Tensor, u: Tensor, parameters: Tensor) -> Tensor:
        return self._solver(tuple(a.shape[2:])).residual(a, u)

    def trivial(self, a: Tensor, u: Tensor) -> Tensor:
        return torch.zeros_like(u)


class EvolutionResidual:
    """Of each frame and the one before it, u_0 being the last frame of the input:

        trapezoid   (u_(k+1) - u_k) / dt - (F(u_k) + F(u_(k+1))) / 2      zero up to O(dt^2)
        solver      (u_(k+1) - S(u_k)) / dt,  S the solver's own step over dt

    with F and S on the grid of the data, b n frames [b n, c, *space] of b windows. The first
    costs two evaluations of F and needs frames that lie close; the second a run of the solver.
    Parameters and coefficients are those of each sample.
    """

    def __init__(self, recipe: EvolutionRecipe, metadata: Metadata, time: Time):
        if metadata.window is None:
            raise ValueError(
                f"{metadata.name}: no frame goes in, so there is no step whose residual the "
                "equation has; set data.window.history=1."
            )
        require_closed(metadata, "the residual of an equation")
        if metadata.frames.dt is None:
            raise ValueError(
                f"{metadata.name}: the time from frame to frame differs between windows, its "
                "equation has no residual; set data.window.stride to one number."
            )
        self._recipe, self._metadata, self._time = recipe, metadata, time
        self._fixed = lru_cache(self._stepper)

    def __call__(self, a: Tensor, u: Tensor, parameters: Tensor) -> Tensor:
        window = self._metadata.frames
        chain = torch.cat((_newest(a, window), u), dim=1).unflatten(1, (-1, window.channels))
        now, after = (part.flatten(0, 1) for part in (chain[:, :-1], chain[:, 1:]))
        stepper = self._given(a, parameters, repeats=window.horizon)
        if self._time == "trapezoid":
            return stepper.residual(now, after)
        substeps = round(window.dt / stepper.dt)
        *_, reached = frames(stepper, now, substeps)
        return (after - reached) / window.dt

    def trivial(self, a: Tensor, u: Tensor) -> Tensor:
        """No change."""
        window = self._metadata.frames
        return _newest(a, window).repeat(1, window.horizon, *[1] * (a.ndim - 2))

    def _given(self, a: Tensor, parameters: Tensor, repeats: int) -> Evolution:
        """The stepper with the parameters and coefficients of each sample, `repeats` frames of it.

        Without any it is made once.
        """
        recipe, meta, shape = self._recipe, self._metadata, tuple(a.shape[2:])
        if not recipe.parameters and not recipe.coefficients:
            return self._fixed(shape)
        given = {
            name: parameters[:, meta.parameters.index(name)].double() for name in recipe.parameters
        }
        start = meta.frames.history * meta.frames.channels
        for field in meta.input_fields[meta.frames.history * self._fields_per_frame() :]:
            if field.name in recipe.coefficients:
                given[field.name] = a[:, start : start + field.components]
            start += field.components
        repeated = {name: v.repeat_interleave(repeats, dim=0) for name, v in given.items()}
        return self._stepper(shape, **repeated)

    def _stepper(self, shape: tuple[int, ...], **given: Tensor) -> Evolution:
        dt = self._metadata.frames.dt if self._time == "trapezoid" else None
        return self._recipe.stepper(shape, given, dt=dt)

    def _fields_per_frame(self) -> int:
        return len(self._metadata.target_fields) // self._metadata.frames.horizon


def residual_of(recipe: Recipe | None, metadata: Metadata, time: Time) -> Residual:
    """Raises ValueError for data whose equation is not known here."""
    if isinstance(recipe, SteadyRecipe):
        return SteadyResidual(recipe)
    if isinstance(recipe, EvolutionRecipe):
        return EvolutionResidual(recipe, metadata, time)
    raise ValueError(
        f"{metadata.name}: task=physics needs data that a recipe of conf/pde gives, such as "
        "data=darcy; files do not say which equation they solve. Take task=supervised."
    )


def _newest(a: Tensor, window: Frames) -> Tensor:
    end = window.history * window.channels
    return a[:, end - window.channels : end]
