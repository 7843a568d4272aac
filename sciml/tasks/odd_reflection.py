"""Training data multiplied by a reflection that changes the sign of the fields."""

import torch
from torch import Tensor

from datasets.schema import Batch, Metadata


class OddReflection:
    """Maps a random half of each batch by u(x) -> -u(-x), input and target alike.

    Solutions come in such pairs where in every term of the equation the factors u and the
    derivatives by x are together odd in number: u_t + u u_x = nu u_xx (Burgers), also
    Kuramoto-Sivashinsky, but not Korteweg-de Vries with its u_xxx. That the equation and the
    distribution of the data are of this kind is for the user to know; what can be checked is the
    grid. All axes are reversed, all fields change sign. Draws from torch's global random state,
    which checkpoints keep.
    """

    def __init__(self):
        self._shifted: list[bool] = []

    def check(self, metadata: Metadata) -> None:
        """ValueError if the grid has no such symmetry."""
        for axis in metadata.grid.axes:
            lopsided = axis.points == "left" and not axis.is_periodic
            if lopsided or axis.boundary[0] != axis.boundary[1]:
                raise ValueError(
                    f"task.symmetry: OddReflection needs sides and points that lie symmetrically; "
                    f"axis {axis.name} has boundary={axis.boundary} and points={axis.points!r}."
                )
        self._shifted = [axis.points == "left" for axis in metadata.grid.axes]

    def __call__(self, batch: Batch) -> Batch:
        chosen = torch.rand(len(batch.input), device=batch.input.device) < 0.5
        moved = [self._half(u, chosen) for u in (batch.input, batch.target)]
        return batch._replace(input=moved[0], target=moved[1])

    def _half(self, u: Tensor, chosen: Tensor) -> Tensor:
        image = -u.flip([*range(2, u.ndim)])
        for dim, shifted in zip(range(2, u.ndim), self._shifted, strict=True):  # after `check`
            if shifted:  # points 0, h, .. : the first stays where it is
                image = image.roll(1, dim)
        return torch.where(chosen.view(-1, *[1] * (u.ndim - 1)), image, u)
