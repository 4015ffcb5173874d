"""Runs a test's script in a process of its own: compiled Triton, and vLLM as a user imports it.

The tests' process runs Triton in the interpreter and turns warnings into errors; vLLM patches torch
when imported. A script reports through `say`; what it said comes back, once for all who ask.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
_MARK = "RESULT "
_OWN = os.environ.get("PYTHONPATH")  # a checkout that shadows the installed packages
_PATH = ":".join([str(TESTS), str(TESTS / "kernels"), str(TESTS.parent), *([_OWN] if _OWN else [])])


def say(result: Any) -> None:
    """In a script: hand a result of plain types to the test."""
    print(_MARK + json.dumps(result), flush=True)


def run_checks(namespace: Mapping[str, Any]) -> None:
    """In a script: load the plugin as every vLLM process does, then say how each check went."""
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    for name, check in [(n, f) for n, f in namespace.items() if n.startswith("check_")]:
        try:
            check()
            say([name, None])
        except Exception:
            say([name, traceback.format_exc()])


def _said(output: str) -> list[Any]:
    lines = output.splitlines()
    return [json.loads(line.removeprefix(_MARK)) for line in lines if line.startswith(_MARK)]


def _execute(script: str, arguments: tuple[str, ...], variables: dict[str, str]) -> tuple[str, str]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(TESTS / script), *arguments],
        env={**environment, "PYTHONPATH": _PATH, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    return done.stdout, done.stderr


@functools.cache
def run(script: str, *arguments: str) -> list[Any]:
    """What a script, named by its path under `tests`, had to say."""
    return _said(_execute(script, arguments, {"VLLM_LOGGING_LEVEL": "ERROR"})[0])


def run_with_log(script: str, *arguments: str, **variables: str) -> tuple[Any, str]:
    """The one thing that a script said, and all that was printed."""
    output, errors = _execute(script, arguments, variables)
    (said,) = _said(output)
    return said, output + errors
