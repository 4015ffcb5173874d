"""The table of CPU kernels against the kernels that this vLLM has."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from sottovoce_kernels import engine
from sottovoce_kernels.engine import table

RUNNER = "vllm.v1.worker.gpu."


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """Import Model Runner V2 with our `triton` in another process, and see what it asked for."""
    script = os.path.join(os.path.dirname(__file__), "shimmed_imports.py")
    environment = dict(os.environ, VLLM_LOGGING_LEVEL="ERROR", TRITON_INTERPRET="0")
    environment["PYTHONPATH"] = os.path.dirname(os.path.dirname(engine.__path__[0]))
    done = subprocess.run([sys.executable, script], stdout=subprocess.PIPE, env=environment)
    assert done.returncode == 0
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_the_runner_imports_with_our_triton(report: dict[str, Any]) -> None:
    assert report["failures"] == {}


def test_every_entry_replaces_a_kernel_of_this_vllm(report: dict[str, Any]) -> None:
    assert [name for name in table.CPU_KERNELS if not report["names"].get(name)] == []


def test_every_entry_takes_the_kernels_arguments(report: dict[str, Any]) -> None:
    for name, (num_parameters, num_taken, takes_more) in report["kernels"].items():
        assert num_taken == num_parameters or (takes_more and num_taken < num_parameters), name


def test_what_is_missing_is_documented(report: dict[str, Any]) -> None:
    documented = tuple(re.findall(r"^\| `([\w.]+)` \|", table.__doc__ or "", re.MULTILINE))
    missing = [
        name.removeprefix(RUNNER)
        for name, has_cpu_version in report["names"].items()
        # Functions for the use of other kernels are not named so.
        if name.startswith(RUNNER) and name.endswith("_kernel") and not has_cpu_version
    ]
    assert [name for name in missing if not name.startswith(documented)] == []
    assert [entry for entry in documented if not any(n.startswith(entry) for n in missing)] == []
