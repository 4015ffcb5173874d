"""`python -m sottovoce_training.shortcuts.ablations RUN...`: several runs in one table and one plot.

Of each run the modes that its logs validated, or, with `--measure`, more modes on the held-out problems,
kept in the run's `measured.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..families import FAMILIES
from ..reasoner.evaluate import accuracy, score, validation_problems
from ..reasoner.export import MODELS
from ..reasoner.plots import read_log
from ..reasoner.tokenizer import load_tokenizer
from .data import LATENT_STEPS
from .export import load_run, stage_settings
from .generate import DEPTH, Mode, Writer
from .modules import Variant
from .train import VALIDATION_PER_FAMILY

MEASURED = "measured.json"
STAGES = ("latent", "shortcut", "joint")  # in the order in which a run has them
DEPTHS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MODES = (
    *(Mode(steps, depth) for depth in (None, DEPTH) for steps in (0, *LATENT_STEPS)),
    *(Mode(steps, depth) for steps in (0, 6) for depth in DEPTHS),
)


@dataclass(frozen=True)
class Point:
    """One mode of one run."""

    accuracy: float
    skipped: float  # the share of layer executions
    problems: int


@dataclass(frozen=True)
class Ablation:
    """A run, what it leaves out, and how it does."""

    name: str
    left_out: tuple[str, ...]
    points: Mapping[Mode, Point]

    @property
    def title(self) -> str:
        """For columns and legends."""
        return f"{self.name}: without {', '.join(self.left_out)}" if self.left_out else self.name


def _left_out(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """As `--without` names it, and a rule of criticality that is not the usual one."""
    variant, is_joint = settings["variant"], settings["stage"] == "joint"
    parts = {
        "depth": not variant["depth"], "step": not variant["step"], "stages": is_joint,
        "decoder": not settings["steps_read"] and settings["stage"] != "shortcut",
        "derived": settings["criticality"] != "derived",
    }  # fmt: skip
    return tuple(name for name, is_out in parts.items() if is_out)


def _logged(stage: Path) -> Iterator[tuple[Mode, Point]]:
    """What the stage's last evaluation says."""
    known = {mode.name: mode for mode in MODES}
    entries = [e for e in read_log(stage / "log.jsonl") if "modes" in e]
    for name, share in entries[-1]["modes"].items() if entries else ():
        problems = VALIDATION_PER_FAMILY * len(FAMILIES)
        yield known[name], Point(share, entries[-1]["skipped"][name], problems)


def read_run(run: Path) -> Ablation:
    """A run as far as it has come.

    Raises:
        FileNotFoundError: if the directory holds no stage with a log.
    """
    stages = [run / name for name in STAGES if (run / name / "log.jsonl").exists()]
    if not stages:
        raise FileNotFoundError(
            f"{run}: no stage with a log.jsonl; give the --out of a training run"
        )
    # The student is frozen in the second stage: what the first one says of it goes on to hold.
    points = {mode: point for stage in stages for mode, point in _logged(stage)}
    if (run / MEASURED).exists():
        rows = json.loads((run / MEASURED).read_text())
        points = {Mode(r.pop("steps"), r.pop("depth")): Point(**r) for r in rows}
    settings = json.loads((stages[0] / "settings.json").read_text())
    return Ablation(run.name, _left_out(settings), points)


def measure_run(run: Path, teacher: Path, per_family: int) -> None:
    """Measure every mode of a finished run on held-out problems, and keep it there."""
    variant = Variant(**stage_settings(run)["variant"])
    student, tokenizer = load_run(run, teacher, variant)[0], load_tokenizer(teacher)
    problems, rows = validation_problems(per_family, "test"), []
    for mode in MODES:
        writer = Writer(student, tokenizer, mode)
        share = accuracy(score(writer, tokenizer, problems))["all"]
        rows.append({**asdict(mode), **asdict(Point(share, writer.skipped_share, len(problems)))})
    (run / MEASURED).write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")


def table(runs: Sequence[Ablation]) -> str:
    """Markdown: a row a mode, a column a run; accuracy, and the layers skipped where any are."""
    lines = [
        "| thinking | " + " | ".join(run.title for run in runs) + " |",
        "|---" * (len(runs) + 1) + "|",
    ]
    for mode in MODES:
        found = [run.points.get(mode) for run in runs]
        if any(found):
            lines.append(f"| {mode.name} | " + " | ".join(map(_cell, found)) + " |")
    counts = sorted({point.problems for run in runs for point in run.points.values()})
    return "\n".join(lines) + f"\n\nProblems: {', '.join(map(str, counts))}, greedy.\n"


def _cell(point: Point | None) -> str:
    if point is None:
        return ""
    skipped = f" ({point.skipped:.0%} skipped)" if point.skipped else ""
    return f"{point.accuracy:.1%}{skipped}"


def plot(runs: Sequence[Ablation], path: Path) -> None:
    """Accuracy over the number of latent steps, and over the layers skipped as depth varies."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained", sharey=True)
    for number, run in enumerate(runs):
        for depth, style in ((None, "-"), (DEPTH, "--")):
            label = f"{run.title}, {'all layers' if depth is None else f'depth {depth}'}"
            _line(left, run, depth, style, f"C{number}", label)
        for steps, style in ((6, "-"), (0, ":")):
            label = f"{run.title}, {steps} steps" if steps else f"{run.title}, in words"
            points = [p for m, p in run.points.items() if m.steps == steps]
            points.sort(key=lambda p: p.skipped)
            right.plot([100 * p.skipped for p in points], [100 * p.accuracy for p in points],
                       style, color=f"C{number}", marker=".", label=label)  # fmt: skip
    left.set(xlabel="latent steps (0: in words)", ylabel="correct, %")
    right.set(xlabel="layer executions skipped, %")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _line(
    axes: Any, run: Ablation, depth: float | None, style: str, color: str, label: str
) -> None:
    points = sorted((m.steps, p.accuracy) for m, p in run.points.items() if m.depth == depth)
    if points:
        steps, shares = zip(*points, strict=True)
        axes.plot(steps, [100 * s for s in shares], style, color=color, marker=".", label=label)


def main(argv: list[str] | None = None) -> None:
    """Write `ablations.md` and `ablations.png`, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m sottovoce_training.shortcuts.ablations", description=__doc__
    )
    parser.add_argument("runs", nargs="+", type=Path, help="what --out named in training")
    parser.add_argument("--out", type=Path, default=Path(".cache"), help="folder of both files")
    parser.add_argument("--measure", action="store_true", help="on the held-out problems, anew")
    parser.add_argument("--per-family", type=int, default=64, help="problems that --measure asks")
    parser.add_argument("--teacher", type=Path, default=MODELS / "tiny-reasoner")
    args = parser.parse_args(argv)
    if args.measure:
        for run in args.runs:
            measure_run(run, args.teacher, args.per_family)
    runs = [read_run(run) for run in args.runs]
    args.out.mkdir(parents=True, exist_ok=True)
    text = table(runs)
    (args.out / "ablations.md").write_text(text)
    plot(runs, args.out / "ablations.png")
    print(text)


if __name__ == "__main__":
    main()
