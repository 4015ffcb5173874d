"""A run's curves as PNG: loss, and accuracy per family on the validation problems."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Log = Sequence[dict[str, Any]]


def read_log(path: Path) -> list[dict[str, Any]]:
    """The entries of log.jsonl; where a resumed run wrote a step again, the later one."""
    found: dict[tuple[int, bool], dict[str, Any]] = {}
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        found[entry["step"], "loss" in entry] = entry
    return [found[key] for key in sorted(found)]


def _figure(title: str, label: str) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.set(title=title, xlabel="optimizer steps", ylabel=label)
    axes.grid(alpha=0.3)
    return figure, axes


def plot_loss(log: Log, path: Path, key: str = "loss", label: str = "nats per token") -> None:
    """A training loss, by default the labelled tokens' cross-entropy, on a logarithmic axis."""
    points = [(e["step"], e[key]) for e in log if key in e]
    figure, axes = _figure("Training loss", label)
    axes.plot(*zip(*points, strict=True), linewidth=0.8)
    axes.set_yscale("log")
    figure.savefig(path, dpi=110)


def plot_accuracy(log: Log, path: Path, key: str = "accuracy") -> None:
    """Share of validation problems answered, greedy, per family or whatever else `key` holds."""
    entries = [e for e in log if key in e]
    figure, axes = _figure("Accuracy on validation problems", "share correct")
    for name in entries[-1][key] if entries else ():
        points = [(e["step"], e[key][name]) for e in entries]
        width = 2.5 if name == "all" else 1.0
        axes.plot(*zip(*points, strict=True), label=name, linewidth=width, marker=".")
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=7, ncols=3)
    figure.savefig(path, dpi=110)
