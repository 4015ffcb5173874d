"""A study: a folder with its settings and one file of samples for every arm and sampling."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .arms import SAMPLINGS, Arm, Sampling, matched_arm, parse_arm
from .drive import Collector, Endpoint, Sample, read_samples
from .outcome import Outcome, score
from .task import Task
from .tasks import load_task


@dataclass(frozen=True)
class Settings:
    """What must stay the same for samples to belong together."""

    url: str
    model: str
    tasks: tuple[str, ...]
    count: int
    split: str
    max_tokens: int
    concurrency: int
    body: dict[str, Any] = field(default_factory=dict)  # what every request gains


class Study:
    """Samples in a folder, which a later call adds to."""

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self.folder = folder
        path = folder / "study.json"
        saved = _read_settings(path) if path.exists() else None
        if saved is None and settings is None:
            raise ValueError(f"{folder} holds no study; `run` makes one")
        if saved and settings and (differ := _differences(saved, settings)):
            raise ValueError(
                f"{folder} holds a study with other settings ({differ}); give another folder"
            )
        if saved is None and settings is not None:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(asdict(settings), indent=1) + "\n")
        self.settings: Settings = settings or saved  # type: ignore[assignment] # one is there
        self.tasks: list[Task] = [
            load_task(spec, self.settings.count, self.settings.split)
            for spec in self.settings.tasks
        ]

    def _path(self, arm: str, sampling: str) -> Path:
        return self.folder / f"{arm}--{sampling}.jsonl"

    def samples(self, arm: str, sampling: str) -> list[Sample]:
        """The samples of an arm; where one failed and was asked again, the later."""
        return list({s.key: s for s in read_samples(self._path(arm, sampling))}.values())

    def outcome(self, arm: str, sampling: str) -> Outcome:
        """The scored samples of an arm."""
        return score(arm, sampling, self.samples(arm, sampling), self.tasks)

    def outcomes(self) -> list[Outcome]:
        """All arms, in the order in which they were first run."""
        paths = sorted(self.folder.glob("*--*.jsonl"), key=lambda p: p.stat().st_ctime)
        names = [path.stem.rpartition("--") for path in paths]
        return [self.outcome(arm, sampling) for arm, _, sampling in names]

    def arm(self, name: str, sampling: str) -> Arm:
        """An arm by name; `random@ARM` gets the soft share that ARM had here."""
        other = matched_arm(name)
        if other is None:
            return parse_arm(name)
        samples = self.samples(other, sampling)
        steps = sum(s.thinking or 0 for s in samples)
        if not steps:
            raise ValueError(f"{name} needs the soft share of {other}; run that first")
        share = sum(s.soft or 0 for s in samples) / steps
        return Arm(name, parse_arm(f"random@{share:.4f}").body)

    async def run(self, arm: str, sampling: str, num_samples: int, api_key: str) -> None:
        """Ask what is missing of an arm."""
        s = self.settings
        endpoint = Endpoint(s.url, s.model, api_key, s.concurrency, s.max_tokens)
        chosen: Sampling = SAMPLINGS[sampling]
        asked = Arm(arm, {**s.body, **self.arm(arm, sampling).body})
        collector = Collector(endpoint, asked, chosen, self._path(arm, sampling))
        await collector.collect(self.tasks, num_samples)


def _read_settings(path: Path) -> Settings:
    data = json.loads(path.read_text())
    return Settings(**{**data, "tasks": tuple(data["tasks"])})


def _differences(a: Settings, b: Settings) -> str:
    """Where two settings differ; an address may change, as a server's port does."""
    mine, other = asdict(a), asdict(b)
    return ", ".join(
        f"{k}: {mine[k]!r}, now {other[k]!r}" for k in mine if k != "url" and mine[k] != other[k]
    )


def common(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The arm that others are compared with: explicit, if it was run."""
    return next((o for o in outcomes if o.arm in ("explicit", "plain")), None)
