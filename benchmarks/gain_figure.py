"""Error over time of AdamW and K-FAC, the figure of docs/curvature.md, from what
`benchmarks.curvature_gain` kept.

    python -m benchmarks.gain_figure [--keep runs/gain]
"""

import argparse
import json
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.curvature_gain import SEEDS, SHARES, TUNING_SEED, Record
from benchmarks.gain_problems import PROBLEMS
from benchmarks.result import half_width
from sciml.runtime.run_folder import ROOT

PANELS = {"fno_few": "512 training samples", "fno_many": "4096 training samples"}
LINES = {"adamw": ("AdamW, eps tuned", "tab:gray", "o"), "kfac": ("K-FAC", "tab:blue", "s")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, default=ROOT / "runs" / "gain")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures" / "curvature.png")
    asked = parser.parse_args()
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharex=True)
    for axis, (problem, title) in zip(axes, PANELS.items(), strict=True):
        record = Record(asked.keep / f"{problem}.jsonl")
        speeds = json.loads((asked.keep / f"{problem}-seconds.json").read_text())
        for method, (label, color, marker) in LINES.items():
            steps = round(PROBLEMS[problem].steps / speeds[method]["ratio"])
            draw(axis, points(record, problem, method, steps), label, color, marker)
        axis.set_title(f"FNO, Burgers' equation, {title}", fontsize=10)
        axis.set_xlabel("training time, in that of AdamW's full run")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("test error, relative L2, %")
    axes[0].legend(frameon=False)
    figure.tight_layout()
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(asked.out, dpi=150)
    print(asked.out)


def points(record: Record, problem: str, method: str, steps: int) -> dict[float, list[float]]:
    """Test errors in % of the seeds, by the share of the time; each with a schedule of its own."""

    def kept(settings: dict, seed: int, steps: int) -> dict:
        asked = {"seed": seed, "settings": settings, "steps": steps}
        return record.known[json.dumps(asked, sort_keys=True)]

    trials = PROBLEMS[problem].trials(method)
    best = min(trials, key=lambda s: kept(s, TUNING_SEED, steps)["valid"])
    return {
        share: [100 * kept(best, seed, round(share * steps))["test"] for seed in SEEDS]
        for share in (*sorted(SHARES), 1.0)
    }


def draw(axis, found: dict[float, list[float]], label: str, color: str, marker: str) -> None:
    shares = list(found)
    means = [statistics.fmean(values) for values in found.values()]
    widths = [half_width(values) for values in found.values()]
    axis.errorbar(shares, means, widths, label=label, color=color, marker=marker, capsize=3)
    axis.annotate(
        f"{means[-1]:.2f} %",
        (shares[-1], means[-1]),
        textcoords="offset points",
        xytext=(-6, 8),
        ha="right",
        color=color,
        fontsize=9,
    )


if __name__ == "__main__":
    main()
