"""Draws the curves of the latest `sweep` rows; `python -m benchmarks.peers.plot`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..rows import RESULTS
from .sweep import AXES, slope
from .table import curves

_SIDES = ("latent", "explicit")


def panel(axes: Any, axis: str, points: Mapping[int, tuple[float, float]]) -> None:
    """Milliseconds of a step of each side over the axis, both logarithmic."""
    from matplotlib.ticker import NullLocator, StrMethodFormatter

    for i, (side, marker) in enumerate(zip(_SIDES, "os", strict=True)):
        ms = [1e3 * seconds[i] for seconds in points.values()]
        power = f", power {slope(list(points), ms):.2f}" if len(ms) > 1 else ""
        axes.plot(list(points), ms, marker=marker, label=f"{side}{power}")
    axes.set(title=axis, ylabel="step, ms", xscale="log", yscale="log")
    axes.set_xticks(list(points), [f"{value:,}" for value in points], minor=False)
    axes.xaxis.set_minor_locator(NullLocator())
    for of in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        of(StrMethodFormatter("{x:g}"))
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small")


def plot(path: Path) -> None:
    """A panel for every axis that has been swept.

    Raises:
        RuntimeError: if none has.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    found = curves()
    if not found:
        raise RuntimeError("no rows of a sweep: `make bench-peers` makes them")
    figure, panels = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    for axes, axis in zip(panels.flat, AXES, strict=True):
        points = {row["parameters"]["value"]: tuple(row["median_seconds"])
                  for row in found.get(axis, ())}  # fmt: skip
        axes.set_visible(bool(points))
        if points:
            panel(axes, axis, points)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    plot(RESULTS / "sweep.png")
