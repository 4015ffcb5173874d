"""The curves of a profile over its levels: a colour for every mode, a marker for every tool."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

from .profiles import PROFILES
from .summary import TIMES, Summary

_Value = Callable[[Summary], float | None]
ACCURACY = "right answers, % (95 % interval)"


def _point(key: str, name: str) -> _Value:
    return lambda s: (s.times[key] or {}).get(name)


# Of each panel, what is drawn; of times, a second value, which is drawn thin and dashed.
PANELS: dict[str, tuple[_Value, ...]] = {
    **{f"{title}, s: p95, p50 dashed": (_point(key, "p95"), _point(key, "p50"))
       for key, title in TIMES.items()},
    "right answers in time per s": (lambda s: s.goodput,),
    "answers per s": (lambda s: s.throughput,),
    "tokens per s": (lambda s: s.tokens_per_s,),
    ACCURACY: (lambda s: 100 * s.accuracy.value,),
    "thinking steps of an answer": (lambda s: s.thinking,),
}  # fmt: skip
_STYLES: tuple[dict[str, Any], ...] = ({}, {"linestyle": "--", "linewidth": 0.8, "markersize": 3})


def label(s: Summary) -> str:
    """The mode, and whether others shared its load."""
    return f"{s.mode}, mixed" if s.is_mixed else s.mode


def _draw(panel: Any, title: str, line: Sequence[Summary], look: dict[str, Any]) -> None:
    for value, style in zip(PANELS[title], _STYLES, strict=False):
        points = [(s.level, y) for s in line if (y := value(s)) is not None]
        if points:
            panel.plot(*zip(*points, strict=True), **look, **style)
    if title == ACCURACY:
        for s in line:
            e = s.accuracy
            panel.vlines(s.level, 100 * e.low, 100 * e.high, look["color"], alpha=0.4)


def plot(profile: str, found: Sequence[Summary]) -> str:
    """The curves as a data URL."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(3, 3, figsize=(16, 12), layout="constrained")
    lines: dict[tuple[str, str], list[Summary]] = {}
    for s in sorted(found, key=lambda s: s.level):
        lines.setdefault((s.tool, label(s)), []).append(s)
    modes = sorted({s.mode for s in found})
    markers = dict(zip(dict.fromkeys((s.tool, s.is_mixed) for s in found), "osD^vP", strict=False))
    for panel, title in zip(axes.flat, PANELS, strict=True):
        for (tool, name), line in lines.items():
            look = {
                "color": f"C{modes.index(line[0].mode)}", "label": f"{name}, {tool}",
                "marker": markers[tool, line[0].is_mixed],
            }  # fmt: skip
            _draw(panel, title, line, look)
        panel.set(title=title, xlabel=PROFILES[profile].unit)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    handles, names = axes.flat[4].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize="small")
    with io.BytesIO() as image:
        figure.savefig(image, format="png", dpi=80)
        plt.close(figure)
        return f"data:image/png;base64,{base64.b64encode(image.getvalue()).decode()}"
