"""Where the time of a step goes, latent beside explicit, in the process of the engine's core.

`torch` is torch's profiler by way of vLLM: times of ops by kind, in the median step of a full batch.
It sees nothing of Python and of compiled numba code, which are what lies between the ops.
`py-spy` looks at the stack a hundred times a second: times by the part of the software that is at
work, prefills included. It runs without `--native`, which stops the process for most of the time;
what C++ and numba do is put down to the Python that calls them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from ..engine import Engine
from ..loads import LATENT, OPTIONS, PROMPT, SAMPLING
from ..rows import write

_BETWEEN = "between ops"
# The first that an op's name holds.
OPS = (
    ("attention", "attention and its cache"), ("attn", "attention and its cache"),
    ("kv_cache", "attention and its cache"), ("onednn_mm", "matmul"), ("aten::mm", "matmul"),
    ("addmm", "matmul"), ("linear", "matmul"), ("Compiled", "compiled model"),
    ("execute_context", _BETWEEN), ("", "other ops"),
)  # fmt: skip
# The first that a frame holds, from the innermost frame out; None: its caller decides.
FRAMES = (
    ("sottovoce_kernels/engine/", None),  # vLLM's own kernels, for a CPU
    ("sottovoce_kernels/", "our kernels"), ("sottovoce_router/", "our router"),
    ("/sample/", "vLLM's sampler"), ("vllm/model_executor/", "model"),
    ("vllm/compilation/", "model"), ("vllm/v1/worker/", "runner: inputs and outputs"),
    ("vllm/v1/core/", "scheduler"), ("_process_input_queue", "idle"),
    ("vllm/v1/engine/", "engine loop"), ("", "other"),
)  # fmt: skip
_MODES = {"explicit": SAMPLING, "latent": LATENT}
_SAMPLES_PER_S = 100


@dataclass(frozen=True)
class Profile:
    """Shares of a step's time by part, and how long a step took while it was watched."""

    shares: dict[str, float]
    step_ms: float


def group(name: str, table: Sequence[tuple[str, str | None]]) -> str | None:
    """The first entry of a table that a name holds."""
    return next(found for part, found in table if part in name)


def frame_group(stack: str) -> str:
    """Who is at work in a stack, `outermost;...;innermost`."""
    for frame in reversed(stack.split(";")):
        found = group(frame, FRAMES)
        if found not in (None, "other"):
            return str(found)
    return "other"


def stack_shares(raw: Iterable[str]) -> dict[str, float]:
    """Shares of the engine's main thread, of py-spy's lines `stack count`."""
    found = Counter[str]()
    for line in raw:
        stack, _, count = line.rpartition(" ")
        if "run_engine_core" in stack:
            found[frame_group(stack)] += int(count)
    return _shares(found)


def _shares(times: Mapping[str, float]) -> dict[str, float]:
    total = sum(times.values())
    if not total:
        raise RuntimeError("the profile is empty")
    return {
        name: round(value / total, 5)
        for name, value in sorted(times.items(), key=lambda kv: -kv[1])
    }


def op_profile(events: Iterable[dict[str, Any]], concurrent: int) -> Profile:
    """Self times of a trace's ops in a step of a full batch: of every part its median."""
    ops = sorted(
        (e for e in events if e.get("cat") in ("cpu_op", "user_annotation")),
        key=lambda e: (e["ts"], -e["dur"]),
    )
    full = f"execute_context_0(0)_generation_{concurrent}({concurrent})"
    starts = [e["ts"] for e in ops if e["name"] == full]
    if len(starts) < 2:
        raise RuntimeError(f"no two steps of {concurrent} requests in the trace")
    steps = [
        _self_us([e for e in ops if start <= e["ts"] < end], end - start)
        for start, end in pairwise(starts)
    ]
    parts = {part for step in steps for part in step}
    us = Counter({part: median(step[part] for step in steps) for part in parts})
    return Profile(_shares(us), us.total() / 1e3)


def _self_us(ops: Iterable[dict[str, Any]], step_us: float) -> Counter[str]:
    """Of ops in the order of their start; one that holds others has what they leave."""
    us, holders = Counter({_BETWEEN: step_us}), list[tuple[float, str]]()
    for op in ops:
        while holders and holders[-1][0] <= op["ts"]:
            holders.pop()
        part = str(group(op["name"], OPS))
        us[holders[-1][1] if holders else _BETWEEN] -= op["dur"]
        us[part] += op["dur"]
        holders.append((op["ts"] + op["dur"], part))
    return us


def _watch_ops(
    engine: Engine, directory: Path, sampling: dict[str, Any], lengths: list[int]
) -> Profile:
    engine.profile(PROMPT, lengths, sampling)
    (trace,) = directory.glob("*.json")
    events = json.loads(trace.read_text())["traceEvents"]
    trace.unlink()
    return op_profile(events, len(lengths))


def py_spy() -> str:
    """Its program; raises RuntimeError where it is not installed."""
    found = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if found is None:
        raise RuntimeError(f"no py-spy: `{sys.executable} -m pip install py-spy` installs it")
    return found


def _core_pid(engine: Engine) -> int:
    for child in psutil.Process(engine.pid).children(recursive=True):
        if "EngineCore" in " ".join(child.cmdline()):
            return child.pid
    raise RuntimeError("the engine's core has no process of its own")


def _watch_stacks(
    engine: Engine, directory: Path, sampling: dict[str, Any], lengths: list[int], seconds: int
) -> Profile:
    raw, spent = directory / "stacks", list[float]()
    command = [py_spy(), "record", "--nonblocking", "--idle", "--format", "raw"]
    command += ["--rate", str(_SAMPLES_PER_S), "--duration", str(seconds)]
    command += ["--output", str(raw), "--pid", str(_core_pid(engine))]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as watcher:
        while watcher.poll() is None:
            spent.append(engine.run(PROMPT, lengths, sampling))
        said = watcher.stderr.read().decode() if watcher.stderr else ""
    if watcher.returncode:
        raise RuntimeError(f"py-spy failed: {said}")
    return Profile(
        stack_shares(raw.read_text().splitlines()), sum(spent) / len(spent) / max(lengths) * 1e3
    )


def bench(model: str, dtype: str, concurrent: int, steps: int, seconds: int) -> None:
    """A row for each instrument and mode."""
    py_spy()
    lengths = [steps] * concurrent
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        config = {
            "profiler": "torch", "torch_profiler_dir": name, "torch_profiler_with_stack": False,
            "torch_profiler_use_gzip": False,
        }  # fmt: skip
        engine = Engine("sottovoce", model, dtype=dtype, profiler_config=config, **OPTIONS)
        instruments: dict[str, Callable[[dict[str, Any]], Profile]] = {
            "torch": lambda s: _watch_ops(engine, directory, s, lengths),
            "py-spy": lambda s: _watch_stacks(engine, directory, s, lengths, seconds),
        }
        for sampling in _MODES.values():
            engine.run(PROMPT, lengths, sampling)  # compiles
        for instrument, watch in instruments.items():
            for mode, sampling in _MODES.items():
                about = {"instrument": instrument, "mode": mode, "concurrent": concurrent,
                         "steps": steps, "dtype": dtype}  # fmt: skip
                _row(about, watch(sampling))
        engine.close()


def _row(about: dict[str, Any], found: Profile) -> None:
    step_ms = round(found.step_ms, 3)
    write("profile", {"name": "profile", "parameters": about, "step_ms": step_ms,
                      "shares": found.shares})  # fmt: skip
    print(f"{about['instrument']}, {about['mode']}: {step_ms} ms a step")
    for part, share in found.shares.items():
        print(f"  {part:<28} {share:7.2%} {share * step_ms:8.3f} ms")
