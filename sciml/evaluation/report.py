"""The report of a run: one HTML file that opens from disk, without network and without a script."""

import base64
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets.schema import SPLITS
from datasets.store import commit
from sciml.evaluation import comparison, curvature, figures, influence, panels, stream
from sciml.evaluation.page import count, duration, number, render, tally
from sciml.evaluation.result import Evaluation
from sciml.evaluation.rollout_tables import rollout_remarks, rollout_rows
from sciml.evaluation.run_folder import Run, read_run
from sciml.evaluation.tables import (
    MEASURES,
    by_field,
    error_rows,
    measure_rows,
    remarks,
    typeset,
)

CURVES = {"loss": "loss", "relative_l2": "relative L2 error"}
MAX_CHANNELS = 4  # fields with panels; more would make the file too large to send


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into the folder of a run (see `run_folder`) and return its path."""
    run_dir = Path(run_dir)
    page = render("report.html.j2", _context(read_run(run_dir), run_dir.name))
    path = run_dir / "report.html"
    commit(path, page.encode())
    return path


def _context(run: Run, folder: str) -> dict[str, Any]:
    about, metrics = run.about, run.metrics
    evaluation = run.evaluation
    return {
        "name": about.get("name", folder),
        "status": metrics.get("status", "unknown"),
        "subtitle": _joined(_started(about), about.get("machine", {}).get("processor")),
        "headline": _headline(run),
        "error": metrics.get("error", ""),
        "tiles": _tiles(run),
        "error_rows": error_rows(evaluation) if evaluation else [],
        "measures": measure_rows(evaluation, metrics) if evaluation else {"rows": []},
        "notes": remarks(evaluation, metrics) if evaluation else [],
        "distributions": _distributions(evaluation) if evaluation else [],
        "rollouts": _rollouts(run),
        "panels": _panels(evaluation) if evaluation else [],
        "curves": _curves(run),
        "comparison": comparison.section(run.compare),
        "stream": _stream(run),
        "curvature": _curvature(run),
        "influence": _influence(run),
        "data": _data(about.get("data", {})),
        "cost": _cost(run),
        "command": about.get("command", ""),
        "origin": _origin(about, metrics),
        "versions": sorted(about.get("versions", {}).items()),
        "config": run.config,
        "definitions": [
            definition
            for key, definition in MEASURES.items()
            if any(k.split("/")[1:2] == [key] for k in metrics)
        ],
    }


def _headline(run: Run) -> str:
    """What was learned, from what, and how well, in two sentences."""
    data, splits = run.about.get("data", {}), run.about.get("data", {}).get("splits", {})
    name = data.get("name", "a data set") + (", regenerated" if _is_regenerated(data) else "")
    fields = f" ({typeset(data['description'])})" if data.get("description") else ""
    how = "from a checkpoint, not trained in this run, on"
    if run.curves:
        how = (
            f"trained on {count(splits['train'])} samples of" if "train" in splits else "trained on"
        )
    if run.stream:
        how = f"trained on a stream of {count(run.stream['status']['done'])} simulations of"
    what = f"{run.about.get('model', {}).get('name', 'A model')}, {how} {name}{fields}."
    if run.metrics.get("error"):
        return f"{what} The run ended early, with the error below."
    tested = _tested(run.metrics)
    if not tested:
        return f"{what} No test set was evaluated."
    prefix, error = next(iter(tested.items()))
    samples = run.metrics.get(f"{prefix}/samples")
    on = f"{count(samples)} test samples" if samples else "the test samples"
    return f"{what} The mean relative L2 error on {on} is {number(100 * error)} %."


def _tested(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Mean relative L2 error by prefix (`test`, `test@128x128`), in the order of the file."""
    return {
        key.removesuffix("/relative_l2"): error
        for key, error in metrics.items()
        if key.startswith("test") and key.endswith("/relative_l2")
    }


def _is_regenerated(data: Mapping[str, Any]) -> bool:
    """Whether the provenance says that published data were made anew from their recipe."""
    provenance = data.get("provenance", {})
    return bool(provenance.get("regenerated")) or any(
        "regenerated" in str(value).lower() for value in provenance.values()
    )


def _tiles(run: Run) -> list[tuple[str, str]]:
    metrics, tiles = run.metrics, []
    for prefix, error in _tested(metrics).items():
        at = f" at {typeset(prefix[5:])}" if prefix.startswith("test@") else ""
        tiles.append((f"{number(100 * error)} %", f"test error{at}, mean relative L2"))
    for key, label, text in (
        ("train_s", "training", duration),
        ("parameters", "parameters", count),
        ("peak_rss_mb", "peak memory", _memory),
    ):
        if metrics.get(key):
            tiles.append((text(metrics[key]), label))
    return tiles


def _distributions(evaluation: Evaluation) -> list[dict[str, str]]:
    """Errors over samples and scales, a line per resolution and field where colours suffice."""
    results, several = evaluation.results, len(evaluation.fields) > 1
    each = len(results) * len(evaluation.fields) <= len(figures.COLOURS)
    errors, energies = {}, {}
    for resolution, result in results.items():
        for c, field in enumerate(evaluation.fields):
            parts = [field] * several + [typeset(resolution)] * (len(results) > 1 or not several)
            if each:
                errors[", ".join(parts)] = result.errors[:, c]
            if each or (len(energies) < len(figures.COLOURS)):
                spectra = (result.spectrum_truth[c], result.spectrum_error[c])
                energies[", ".join(parts)] = (result.wavenumber, *spectra)
        if not each:
            errors[typeset(resolution)] = by_field(evaluation, result)[-1][1]
    of = "" if each else ", mean over fields"
    caption = (
        f"Share of test samples with at most this error{of}; dots: median and 95\u00a0% quantile."
    )
    made = [_figure(figures.error_distribution(errors), caption, "line")]
    caption = "Energy of the truth and of the error in shells of wavenumbers, mean over samples."
    return [*made, _figure(figures.error_spectrum(energies), caption, "line")]


def _rollouts(run: Run) -> dict[str, Any]:
    if not run.rollouts:
        return {"rows": []}
    growth, correlation = (
        figures.error_growth({typeset(r): errors for r, errors in run.rollouts.items()}),
        figures.correlation({typeset(r): errors for r, errors in run.rollouts.items()}),
    )
    made = [
        _figure(growth, "Mean error with its 95\u00a0% interval; dashed: no change.", "line"),
        _figure(correlation, "Median correlation with the truth, and its quartiles.", "line"),
    ]
    return {
        "rows": rollout_rows(run.rollouts),
        "notes": rollout_remarks(run.rollouts),
        "figures": made,
    }


def _panels(evaluation: Evaluation) -> list[dict[str, str]]:
    made = []
    for resolution, result in evaluation.results.items():
        for c, field in enumerate(evaluation.fields[:MAX_CHANNELS]):
            ndim = result.target.ndim - 2
            caption = f"Field {field}, {typeset(resolution)}"
            caption += f", mid-plane normal to {evaluation.axes[-1]}." if ndim == 3 else "."
            caption += " Truth and prediction share a colour scale." if ndim > 1 else ""
            kind = "map" if ndim > 1 else "line"
            made.append(_figure(panels.sample_panels(evaluation, result, c), caption, kind))
            if ndim == 3:
                caption = f"Field {field}, {typeset(resolution)}, the three mid-planes."
                made.append(_figure(panels.midplanes(evaluation, result, c), caption, kind))
    return made


def _curves(run: Run) -> list[dict[str, str]]:
    return [
        _figure(
            figures.learning_curve(label, run.curves[quantity], run.metrics.get("best_epoch")),
            f"{label[0].upper()}{label[1:]} by epoch.",
            "line",
        )
        for quantity, label in CURVES.items()
        if quantity in run.curves
    ]


def _stream(run: Run) -> dict[str, Any]:
    if not run.stream:
        return {"rows": []}
    made = [_figure(*picture, "line") for picture in stream.pictures(run.stream)]
    return {**stream.section(run.stream), "figures": made}


def _curvature(run: Run) -> dict[str, Any]:
    if not run.curvature:
        return {"rows": []}
    made = [_figure(*picture) for picture in curvature.pictures(run.curvature).values()]
    return {**curvature.section(run.curvature), "figures": made[:-1], "wide": made[-1:]}


def _influence(run: Run) -> dict[str, Any]:
    if not run.influence:
        return {"rows": []}
    made, kind = [], "line" if run.influence["ndim"] == 1 else "map"
    if run.influence_figure:
        made = [_figure(run.influence_figure, influence.caption(run.influence), kind)]
    return {**influence.section(run.influence), "figures": made}


def _figure(png: bytes, caption: str, kind: str) -> dict[str, str]:
    return {"png": base64.b64encode(png).decode(), "caption": caption, "kind": kind}


def _data(data: Mapping[str, Any]) -> list[tuple[str, Any]]:
    sizes = data.get("splits", {})
    splits = ", ".join(f"{count(sizes[split])} {split}" for split in SPLITS if split in sizes)
    rows = [
        ("Data set", data.get("name")),
        ("Fields", typeset(data.get("description", ""))),
        ("Samples", splits),
        *(
            (str(key).replace("_", " ").capitalize(), v)
            for key, v in data.get("provenance", {}).items()
        ),
        ("Path", data.get("path")),
        ("Hash", data.get("hash")),
    ]
    return _recorded(rows)


def _cost(run: Run) -> list[tuple[str, Any]]:
    metrics, machine = run.metrics, run.about.get("machine", {})
    method = run.about.get("curvature", {})
    cores, threads = machine.get("cores"), machine.get("threads")
    times = (
        ("Whole run", "wall_s"),
        ("Data", "data_s"),
        ("Training", "train_s"),
        ("Evaluation", "evaluate_s"),
    )
    parameters = metrics.get("parameters", run.about.get("model", {}).get("parameters"))
    before = metrics.get("train_before_s")
    rows = [
        *((label, duration(metrics[key])) for label, key in times if key in metrics),
        ("Training before the checkpoint, included", duration(before) if before else None),
        ("Peak memory", _memory(metrics["peak_rss_mb"]) if "peak_rss_mb" in metrics else None),
        ("Parameters", count(parameters) if parameters is not None else None),
        ("Curvature", method.get("summary")),
        ("Failed in it", tally(failures) if (failures := method.get("failures")) else None),
        ("Processor", machine.get("processor")),
        ("Device", machine.get("device")),
        ("Cores, threads", f"{cores}, {threads}" if cores and threads else cores or threads),
    ]
    return _recorded(rows)


def _origin(about: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[tuple[str, Any]]:
    git = about.get("git") or {}
    commit = git.get("commit") or "no repository"
    best = metrics.get("best_epoch")
    rows = [
        ("Seed", about.get("seed")),
        ("Git commit", f"{commit}, with uncommitted changes" if git.get("dirty") else commit),
        ("Model", about.get("model", {}).get("name")),
        ("Checkpoint", about.get("checkpoint")),
        ("Continued from", about.get("continued_from")),
        ("Best epoch", f"{best}, chosen on validation data" if best is not None else None),
        ("Started", _started(about)),
    ]
    return _recorded(rows)


def _started(about: Mapping[str, Any]) -> str:
    date, _, time = str(about.get("started", "")).partition("T")
    return f"{date} {time}".strip()


def _recorded(rows: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in rows if value not in (None, "")]


def _memory(megabytes: float) -> str:
    return f"{megabytes / 1000:.2f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"


def _joined(*parts: str | None) -> str:
    return " · ".join(str(part) for part in parts if part)


if __name__ == "__main__":
    print(write_report(Path(sys.argv[1])))
