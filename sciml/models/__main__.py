"""`python -m sciml.models [--ndim 1]` prints the models that `model=...` can name."""

import argparse

from rich.console import Console
from rich.table import Table

from sciml.models.catalogue import POINTS, entries


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m sciml.models", description="The models that model=... can name."
    )
    parser.add_argument(
        "--ndim", type=int, choices=sorted(POINTS), default=2, help="count parameters for this many"
    )
    ndim = parser.parse_args().ndim
    table = Table()
    for title in ("model", "parameters", "dims", "any grid size", "sides", "paper"):
        wrap = title not in ("model", "parameters", "dims")
        table.add_column(title, no_wrap=not wrap, overflow="fold")
    for name, card, shape, parameters in entries(ndim):
        table.add_row(
            name,
            f"{parameters:,}" if len(shape) == ndim else f"{parameters:,} in {len(shape)}-D",
            ", ".join(map(str, card.dimensions)),
            "yes" if card.any_resolution else "no",
            card.boundaries,
            card.paper,
        )
    console = Console()
    console.print(table)
    points = " x ".join([str(POINTS[ndim])] * ndim)
    console.print(f"Real parameters of a map from one field to one on {points} points.")


if __name__ == "__main__":
    main()
