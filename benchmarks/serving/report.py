"""A session's report: JSON, a self-contained HTML page with plots, and rows with provenance."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from ..rows import write
from .profiles import PROFILES
from .summary import TIMES, Summary

_PAGE = Template((Path(__file__).parent / "report.html").read_text())
_CURVES: dict[str, Callable[[Summary], float | None]] = {
    **{f"p95 {title}, s": lambda s, key=key: (s.times[key] or {}).get("p95")  # type: ignore[misc]
       for key, title in TIMES.items()},
    "right answers in time per s": lambda s: s.goodput,
    "tokens per s": lambda s: s.tokens_per_s,
}  # fmt: skip


@dataclass
class Report:
    """What was measured so far, and how; written anew after every run."""

    parameters: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)  # of the tools
    profiles: dict[str, list[Summary]] = field(default_factory=dict)
    is_finished: bool = False

    def add(self, profile: str, tool: str, version: str, summaries: Sequence[Summary]) -> None:
        """Take in a run."""
        self.versions[tool] = version
        self.profiles.setdefault(profile, []).extend(summaries)

    def save(self, folder: Path) -> None:
        """Write `report.json` and `report.html`."""
        (folder / "report.json").write_text(json.dumps(asdict(self), indent=1) + "\n")
        (folder / "report.html").write_text(self.page())

    def page(self) -> str:
        """The HTML page, which needs no other file."""
        sections = [
            f"<h2>{escape(name)}: {escape(PROFILES[name].about)}</h2>\n{_table(found)}\n"
            f'<img alt="plots of {escape(name)}" src="{_plot(name, found)}">'
            for name, found in self.profiles.items()
        ]
        setting = {**self.parameters, **{f"{k} version": v for k, v in self.versions.items()}}
        rows = (f"<tr><th>{escape(k)}<td>{escape(str(v))}" for k, v in setting.items())
        return _PAGE.substitute(
            state="" if self.is_finished else "Unfinished: more runs follow.",
            refresh="" if self.is_finished else '<meta http-equiv="refresh" content="5">',
            target=f"{self.parameters['latency_target_s']:g}",
            setting="\n".join(rows),
            sections="\n".join(sections),
        )

    def publish(self) -> None:
        """Append a row for every profile to `benchmarks/results/serving.jsonl`."""
        for name, found in self.profiles.items():
            write("serving", {
                "name": "serving",
                "parameters": {"profile": name, **self.parameters, "tools": self.versions},
                "metric": "goodput", "unit": "right answers in time per second",
                "n": sum(s.requests for s in found), "runs": [asdict(s) for s in found],
            })  # fmt: skip


def _milliseconds(s: Summary, key: str) -> str:
    found = s.times[key]
    return "-" if found is None else " / ".join(f"{1000 * v:.0f}" for v in found.values())


def _mode(s: Summary) -> str:
    return f"{s.mode}, mixed" if s.is_mixed else s.mode


def cells(s: Summary) -> list[str]:
    """A summary as the columns of COLUMNS."""
    return [
        s.tool, s.load, _mode(s), str(s.requests), str(s.errors), "-" if s.cut is None else str(s.cut),
        str(s.right), f"{s.goodput:.3f}", f"{s.throughput:.3f}", f"{s.tokens_per_s:.1f}",
        *(_milliseconds(s, key) for key in TIMES),
    ]  # fmt: skip


COLUMNS = (
    "tool", "load", "mode", "requests", "errors", "cut", "right", "goodput /s", "answers /s",
    "tokens /s", *(f"{title}, ms" for title in TIMES.values()),
)  # fmt: skip


def _table(found: Sequence[Summary]) -> str:
    head = "".join(f"<th>{escape(name)}" for name in COLUMNS)
    rows = ("".join(f"<td>{escape(cell)}" for cell in cells(s)) for s in found)
    errors = sorted({s.first_error for s in found if s.first_error})
    said = "".join(f"<p class=error>{escape(error)}</p>" for error in errors)
    return f"<table><tr>{head}\n<tr>{'<tr>'.join(rows)}</table>{said}"


def _plot(profile: str, found: Sequence[Summary]) -> str:
    """The curves over the levels of a profile, a line for every tool and mode, as a data URL."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(15, 8), layout="constrained")
    lines = dict.fromkeys((s.tool, _mode(s)) for s in found)
    for panel, (title, value) in zip(axes.flat, _CURVES.items(), strict=True):
        for (tool, mode), marker in zip(lines, "osD^vP*X<>" * 4, strict=False):
            points = [(s.level, value(s)) for s in found if (s.tool, _mode(s)) == (tool, mode)]
            kept = [(level, y) for level, y in points if y is not None]
            if kept:
                panel.plot(*zip(*kept, strict=True), marker=marker, label=f"{mode}, {tool}")
        panel.set(title=title, xlabel=PROFILES[profile].unit)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    if axes.flat[0].lines:  # not if every request failed
        axes.flat[0].legend(fontsize="small")
    with io.BytesIO() as image:
        figure.savefig(image, format="png", dpi=80)
        plt.close(figure)
        return f"data:image/png;base64,{base64.b64encode(image.getvalue()).decode()}"
