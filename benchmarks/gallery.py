"""`python -m benchmarks.gallery [NAME ...]`: a picture of one test sample of every recipe in
conf/pde, and docs/gallery.md with what it is, where it comes from and the command that makes it.
"""

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from matplotlib import rc_context
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from datasets.build import instantiate
from datasets.recipe import Recipe, sample_generator
from datasets.schema import Metadata
from datasets.shards import SIZES
from sciml.evaluation.figures import FIELD_MAP, INPUT_MAP, STYLE
from sciml.runtime.run_folder import ROOT

FOLDER = ROOT / "docs" / "gallery"
YOURS = {"program", "python"}  # examples for solvers from outside
COLUMNS = 5  # frames of a trajectory in two dimensions
HEAD = """# Gallery

One test sample of every recipe in `conf/pde`, on its usual grid, drawn by
`python -m benchmarks.gallery`. Make the data with the command below a picture, or train on them
with `python train.py data=NAME`; `pde=paper/NAME` has the size of the source, and
`python train.py data=NAME pde@data.pde=paper/NAME` trains on it. All quantities are dimensionless.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery", description=__doc__)
    parser.add_argument("names", nargs="*", help="recipes to draw anew; all without any")
    every = sorted({path.stem for path in (ROOT / "conf" / "pde").glob("*.yaml")} - YOURS)
    chosen = parser.parse_args().names or every
    FOLDER.mkdir(exist_ok=True)
    pages = [HEAD]
    for name in every:
        config = described(name)
        if name in chosen:
            draw(config).savefig(FOLDER / f"{name}.png", dpi=90)
            print(name, flush=True)
        pages.append(page(config))
    (ROOT / "docs" / "gallery.md").write_text("\n".join(pages))


def described(name: str) -> dict[str, Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("generate", [f"pde={name}"])
    return OmegaConf.to_container(config.pde, resolve=True)


def page(config: Mapping[str, Any]) -> str:
    """What a recipe says of itself, as Markdown."""
    about = config["provenance"]
    lines = [f"## {config['name']}", "", about["equation"], ""]
    lines += [f"- {key}: {text}" for key, text in about.items() if key != "equation"]
    picture = f"![{config['name']}](gallery/{config['name']}.png)"
    command = f"python -m datasets.generate pde={config['name']}"
    return "\n".join([*lines, "", picture, "", f"`{command}`", ""])


def draw(config: Mapping[str, Any]) -> Figure:
    recipe = instantiate({key: value for key, value in config.items() if key not in SIZES})
    points = config["resolution"]
    shape = points if isinstance(points, list) else [points] * recipe.ndim
    metadata, fields = recipe.metadata(shape), sample(recipe, shape)
    with rc_context(STYLE):
        if metadata.num_frames is None:
            return rows([(name, [u], [""]) for name, u in fields.items()], metadata)
        if metadata.ndim == 1:
            return histories(fields, metadata)
        return rows(frames(fields, metadata), metadata)


def sample(recipe: Recipe, shape: list[int]) -> dict[str, np.ndarray]:
    """The fields of test sample 0 by name, [(t,) (c,) *space]."""
    torch.set_num_threads(2)
    solution = recipe.solve([sample_generator(0, "test", 0)], shape)
    return {name: field[0].numpy() for name, field in solution.fields.items()}


def frames(fields: Mapping[str, np.ndarray], metadata: Metadata) -> list[tuple]:
    """A line for each field: its name, some frames, their titles."""
    constant = {field.name for field in metadata.input_fields}
    moments = np.linspace(0, metadata.num_frames - 1, COLUMNS).round().astype(int)
    lines = []
    for field in metadata.input_fields + metadata.target_fields:
        u = fields[field.name]
        if field.name in constant:
            lines.append((field.name, [u], [""]))
            continue
        parts = u.swapaxes(0, 1) if field.components > 1 else u[None]
        for number, part in enumerate(parts):
            name = field.name if len(parts) == 1 else f"{field.name} {'xyz'[number]}"
            if np.ptp(part[0]) == 0 and np.ptp(part) > 0 and field.name == "time":
                continue
            titles = [f"t = {k * metadata.dt:g}" for k in moments]
            lines.append((name, [part[k] for k in moments], titles))
    return lines


def rows(lines: list[tuple], metadata: Metadata) -> Figure:
    """Images [x, y] in lines, x to the right and y up; one colour scale per line."""
    flat = all(len(images) == 1 for _, images, _ in lines)
    if flat:
        lines = [("", [u for _, [u], _ in lines], [name for name, _, _ in lines])]
    width = max(len(images) for _, images, _ in lines)
    figure = Figure((1.9 * width + 0.9, 1.95 * len(lines) + 0.3), layout="constrained")
    axes = figure.subplots(len(lines), width, squeeze=False)
    inputs = len(metadata.input_fields)
    for row, (name, images, titles) in zip(axes, lines, strict=True):
        low, high = min(u.min() for u in images), max(u.max() for u in images)
        for column, panel in enumerate(row):
            if column >= len(images):
                panel.set_axis_off()
                continue
            scale = {} if flat else {"vmin": low, "vmax": high}
            colours = INPUT_MAP if flat and column < inputs else FIELD_MAP
            drawn = panel.imshow(images[column].T, origin="lower", cmap=colours, **scale)
            panel.set(xticks=[], yticks=[], title=titles[column])
            if flat:
                figure.colorbar(drawn, ax=panel, shrink=0.75)
        if not flat:
            row[0].set_ylabel(name)
            figure.colorbar(drawn, ax=list(row), shrink=0.8, pad=0.01)
    return figure


def histories(fields: Mapping[str, np.ndarray], metadata: Metadata) -> Figure:
    """Space to the right, time up; two frames are two curves."""
    figure = Figure((3.4 * len(fields) + 0.4, 2.7), layout="constrained")
    [axis] = metadata.grid.axes
    end = metadata.dt * (metadata.num_frames - 1)
    for panel, (name, u) in zip(
        figure.subplots(1, len(fields), squeeze=False)[0], fields.items(), strict=True
    ):
        if metadata.num_frames == 2:
            for frame, time in zip(u, (0, end), strict=True):
                panel.plot(axis.coordinates(), frame, label=f"t = {time:g}")
            panel.legend()
            panel.set(xlabel="x", ylabel=name)
            continue
        extent = (axis.lower, axis.upper, 0, end)
        drawn = panel.imshow(u, origin="lower", aspect="auto", extent=extent, cmap=FIELD_MAP)
        panel.set(xlabel="x", ylabel="t", title=name)
        figure.colorbar(drawn, ax=panel)
    return figure


if __name__ == "__main__":
    main()
