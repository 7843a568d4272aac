"""What the catalogue says of an architecture."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """`paper` names the source, `dimensions` the space dimensions that the architecture is for,
    `boundaries` what it does with the sides of a grid, and `any_resolution` promises that one
    trained on a grid can be called on others of the same domain.
    """

    paper: str
    dimensions: tuple[int, ...] = (1, 2, 3)
    boundaries: str = "any"
    any_resolution: bool = True
