"""A session's report: JSON, a self-contained HTML page with plots, and rows with provenance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from ..rows import write
from .plots import label, plot
from .profiles import PROFILES
from .session import Run
from .summary import TIMES, Summary

_PAGE = Template((Path(__file__).parent / "report.html").read_text())
# What tells a row from every other: of those alike, tables show the latest.
_OF_SESSION = ("model", "sampling")
_OF_SUMMARY = ("profile", "load", "level", "tool", "mode", "is_mixed")


@dataclass
class Report:
    """What was measured so far, and how; written anew after every run."""

    parameters: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)  # of the tools
    runs: dict[str, list[Summary]] = field(default_factory=dict)  # of all rounds of a run
    failures: dict[str, str] = field(default_factory=dict)  # by the folder of a run
    is_finished: bool = False

    def add(self, run: Run, version: str, summaries: Sequence[Summary]) -> None:
        """Take in a run, in place of what its earlier rounds came to."""
        self.versions[run.tool] = version
        self.runs[run.name] = list(summaries)

    def save(self, folder: Path) -> None:
        """Write `report.json` and `report.html`."""
        (folder / "report.json").write_text(json.dumps(asdict(self), indent=1) + "\n")
        (folder / "report.html").write_text(self.page())

    def page(self) -> str:
        """The HTML page, which needs no other file."""
        everything = [s for found in self.runs.values() for s in found]
        sections = [
            _section(name, [s for s in everything if s.profile == name])
            for name in dict.fromkeys(s.profile for s in everything)
        ]
        failed = (
            f"<p class=error>{escape(name)} failed: {escape(said)}</p>"
            for name, said in self.failures.items()
        )
        setting = {**self.parameters, **{f"{k} version": v for k, v in self.versions.items()}}
        rows = (f"<tr><th>{escape(k)}<td>{escape(str(v))}" for k, v in setting.items())
        return _PAGE.substitute(
            state="" if self.is_finished else "Unfinished: more runs follow.",
            refresh="" if self.is_finished else '<meta http-equiv="refresh" content="5">',
            target=f"{self.parameters['latency_target_s']:g}",
            cores=self.parameters["cores"],
            setting="\n".join(rows),
            sections="\n".join([*failed, *sections]),
        )

    def publish(self, run: Run) -> None:
        """Append a row for every mode of a run to `benchmarks/results/serving.jsonl`."""
        for s in self.runs.get(run.name, ()):
            found, setting = asdict(s), dict(self.parameters)
            of_session = {name: setting.pop(name) for name in _OF_SESSION}
            write("serving", {
                "name": "serving",
                "parameters": {**of_session, **{name: found.pop(name) for name in _OF_SUMMARY}},
                "metric": "goodput", "unit": "right answers in time per second", "n": s.requests,
                **found, "setting": setting, "tool_version": self.versions[s.tool],
            })  # fmt: skip


def _milliseconds(s: Summary, key: str) -> str:
    found = s.times[key]
    return "-" if found is None else " / ".join(f"{1000 * v:.0f}" for v in found.values())


def _accuracy(s: Summary) -> str:
    value, low, high = (100 * v for v in asdict(s.accuracy).values())
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _mean(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def cells(s: Summary) -> list[str]:
    """A summary as the columns of COLUMNS."""
    return [
        s.tool, s.load, label(s), str(s.requests), str(s.errors), "-" if s.cut is None else str(s.cut),
        _accuracy(s), _mean(s.thinking), _mean(s.soft), _mean(s.latent), f"{s.goodput:.3f}",
        f"{s.throughput:.3f}", f"{s.tokens_per_s:.1f}", *(_milliseconds(s, key) for key in TIMES),
    ]  # fmt: skip


COLUMNS = (
    "tool", "load", "mode", "requests", "errors", "cut", "right, % [95 %]", "thinking steps",
    "of them soft", "latent", "goodput /s", "answers /s", "tokens /s",
    *(f"{title}, ms" for title in TIMES.values()),
)  # fmt: skip


def _section(profile: str, found: Sequence[Summary]) -> str:
    head = "".join(f"<th>{escape(name)}" for name in COLUMNS)
    rows = ("".join(f"<td>{escape(cell)}" for cell in cells(s)) for s in found)
    errors = sorted({s.first_error for s in found if s.first_error})
    said = "".join(f"<p class=error>{escape(error)}</p>" for error in errors)
    return (
        f"<h2>{escape(profile)}: {escape(PROFILES[profile].about)}</h2>\n"
        f"<table><tr>{head}\n<tr>{'<tr>'.join(rows)}</table>{said}\n"
        f'<img alt="plots of {escape(profile)}" src="{plot(profile, found)}">'
    )
