"""A study's table, plot and rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..rows import write
from .outcome import Outcome
from .statistics import Estimate, mcnemar, mean_difference
from .study import Study, common

_COLUMNS = (
    "arm", "pass@1 [95 %]", "thinking steps", "soft", "switches", "layers skipped", "s to answer",
    "goodput /s", "pass@1 - explicit", "steps - explicit", "McNemar p",
)  # fmt: skip


def _number(value: float | None, digits: int, scale: float = 1.0, unit: str = "") -> str:
    return "-" if value is None else f"{value * scale:.{digits}f}{unit}"


def _interval(e: Estimate, digits: int, scale: float = 1.0, sign: str = "") -> str:
    low, high = e.low * scale, e.high * scale
    return f"{e.value * scale:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def compare(outcome: Outcome, base: Outcome) -> dict[str, Any]:
    """Paired differences on the problems that both have: accuracy, steps, McNemar's p.

    McNemar's test reads the first sample of each problem, for its trials must be independent.
    """
    keys = [key for key in outcome.correct if key in base.correct]
    mine, theirs = ([o.correct[key] for key in keys] for o in (outcome, base))
    steps, their_steps = outcome.thinking_by_problem(), base.thinking_by_problem()
    return {
        "problems": len(keys),
        "accuracy": mean_difference(
            np.array([v.mean() for v in mine]), np.array([v.mean() for v in theirs])
        ),
        "steps": mean_difference(
            np.array([steps[k] for k in keys]), np.array([their_steps[k] for k in keys])
        ),
        "mcnemar_p": mcnemar(
            np.array([v[0] > 0 for v in mine]), np.array([v[0] > 0 for v in theirs])
        ),
    }


def table(outcomes: Sequence[Outcome], target_s: float) -> str:
    """A Markdown table, a row for every arm; differences are paired by problem."""
    base = common(outcomes)
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|---" * len(_COLUMNS) + "|"]
    for o in outcomes:
        cells = [
            f"`{o.arm}`", _interval(o.pass_at_1(), 1, 100), _number(o.thinking, 1),
            _number(o.soft_share, 0, 100, " %"), _number(o.switches, 1),
            _number(o.skipped_share, 0, 100, " %"), _number(o.first_answer, 2), _number(o.goodput(target_s), 2),
        ]  # fmt: skip
        if base is None or o is base:
            cells += ["", "", ""]
        else:
            paired = compare(o, base)
            cells += [
                _interval(paired["accuracy"], 1, 100, "+"), _interval(paired["steps"], 1, 1, "+"),
                f"{paired['mcnemar_p']:.2g}",
            ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def by_task(outcomes: Sequence[Outcome], names: Sequence[str]) -> str:
    """A Markdown table of pass@1 per task."""
    lines = ["| arm | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for o in outcomes:
        cells = [_number(o.pass_at_1(name).value, 1, 100) for name in names]
        lines.append(f"| `{o.arm}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def append_row(study: Study, o: Outcome, base: Outcome | None, target_s: float) -> None:
    """One line with everything that is known of an arm."""
    tasks = [task.name for task in study.tasks]
    against = {} if base is None or o is base else compare(o, base)
    write("quality", {
        "name": "quality",
        "parameters": {
            **{k: v for k, v in asdict(study.settings).items() if k != "url"},
            "arm": o.arm, "sampling": o.sampling, "routing": study.arm(o.arm, o.sampling).body,
            "latency_target_s": target_s,
        },
        "metric": "pass@1", "unit": "share", **asdict(o.pass_at_1()),
        "n": len(o.correct), "samples": len(o.samples),
        "by_task": {name: asdict(o.pass_at_1(name)) for name in tasks},
        "thinking_by_task": {name: _mean_steps(o, name) for name in tasks},
        "thinking_steps": o.thinking, "skipped_share": o.skipped_share,
        "soft_share": o.soft_share, "switches": o.switches,
        "median_seconds": o.seconds, "median_seconds_to_answer": o.first_answer,
        "goodput": o.goodput(target_s), "errors": o.num_errors, "cut": o.num_cut,
        "against": None if base is None else base.arm,
        "difference": {k: asdict(v) if isinstance(v, Estimate) else v for k, v in against.items()},
    })  # fmt: skip


def _mean_steps(o: Outcome, task: str) -> float:
    steps = [v for (name, _), v in o.thinking_by_problem().items() if name == task]
    return float(np.mean(steps))


def plot(outcomes: Sequence[Outcome], path: Path, title: str) -> None:
    """Accuracy with its interval against mean thinking steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for o, marker in zip(outcomes, "osD^vP*X<>" * 4, strict=False):
        e = o.pass_at_1()
        error = [[100 * (e.value - e.low)], [100 * (e.high - e.value)]]
        axes.errorbar(
            o.thinking or 0.0, 100 * e.value, yerr=error, fmt=marker, capsize=3, label=o.arm
        )
    lengths = [o.thinking or 0.0 for o in outcomes]  # a step more on each side: no zoom into noise
    axes.set_xlim(min(lengths) - 1, max(lengths) + 1)
    axes.set(xlabel="mean thinking steps", ylabel="pass@1, % (95 % interval)", title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write_report(study: Study, target_s: float, publish: bool) -> str:
    """Write `table.md` and `plot-*.png` into the study's folder; returns the text.

    With `publish`, also appends a row for every arm to `benchmarks/results/quality.jsonl`.
    """
    names = [task.name for task in study.tasks]
    everything, parts = study.outcomes(), []
    for sampling in dict.fromkeys(o.sampling for o in everything):
        outcomes = [o for o in everything if o.sampling == sampling]
        size = f"{len(outcomes[0].correct)} problems, {len(outcomes[0].samples)} samples"
        title = f"{study.settings.model}, {sampling}, {size}"
        parts += [f"### {title}\n", table(outcomes, target_s), by_task(outcomes, names)]
        plot(outcomes, study.folder / f"plot-{sampling}.png", title)
        if publish:
            for o in outcomes:
                append_row(study, o, common(outcomes), target_s)
    text = "\n".join(parts)
    (study.folder / "table.md").write_text(text)
    return text
