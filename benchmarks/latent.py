"""`python -m benchmarks.latent RUN...`: what `make train-latent` made, on held-out problems.

Answered in training's own loop, to which the served one is held by the tests. Rows go to
`results/latent.jsonl`, one a run.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sottovoce_training.latent.measure import Finished
from sottovoce_training.reasoner.evaluate import validation_problems

from .rows import write

NAME = "latent"


def measure(run: Path, teacher: Path, per_family: int) -> dict[str, Any]:
    """A run's row.

    Raises:
        FileNotFoundError, ValueError: if the run is not there or not over.
    """
    finished, problems = Finished(run, teacher), validation_problems(per_family, "test")
    settings, found = finished.settings, asdict(finished.measure(problems))
    seed = int(run.name.rpartition("-")[2])
    by_family = found.pop("accuracy")
    return {
        "name": NAME,
        "parameters": {"method": settings.method, "seed": seed, "model": teacher.name,
                       "steps": settings.num_steps, "batch_size": settings.batch_size,
                       "num_latents": settings.most_latents, "problems": len(problems)},
        "metric": "accuracy", "unit": "share", "value": by_family.pop("all"),
        "by_family": by_family, **found,
    }  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Measure runs, a row each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latent", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="METHOD-SEED, folders of finished runs")
    parser.add_argument("--teacher", type=Path, default=Path("models/tiny-reasoner"))
    parser.add_argument("--per-family", type=int, default=250)
    args = parser.parse_args(argv)
    for run in args.runs:
        row = measure(run, args.teacher, args.per_family)
        write(NAME, row)
        print(f"{run.name}: {row['value']:.1%}, {row['latents']:.1f} latents", flush=True)


if __name__ == "__main__":
    main()
