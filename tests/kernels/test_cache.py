"""What numba keeps on disk is not taken once any source that was compiled into it has changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from sottovoce_kernels.engine import cache, jit

CALLER = """
from sottovoce_kernels.cpu.callee import number
from sottovoce_kernels.engine.jit import njit

@njit()
def call() -> int:
    return number()
"""
CALLEE = """
from sottovoce_kernels.engine.jit import njit

@njit()
def number() -> int:
    return {}
"""
ASK = """
from sottovoce_kernels.cpu.caller import call
print([call(), sum(call.stats.cache_hits.values())])
"""


def ask(root: Path) -> list[int]:
    """The number, and whether the caller came from the cache; Python's own cache is left out."""
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    environment["PYTHONPATH"] = str(root)
    said = subprocess.run(
        [sys.executable, "-B", "-c", ASK], env=environment, capture_output=True, check=True
    ).stdout
    found: list[int] = json.loads(said)
    return found


def test_a_change_in_a_called_function_is_seen(tmp_path: Path) -> None:
    package = tmp_path / "sottovoce_kernels"
    for folder in (package, package / "engine", package / "cpu"):
        folder.mkdir()
        (folder / "__init__.py").touch()
    (package / "layout.py").touch()
    for module in (cache, jit):
        shutil.copy(str(module.__file__), package / "engine")
    (package / "cpu" / "caller.py").write_text(CALLER)
    (package / "cpu" / "callee.py").write_text(CALLEE.format(1))
    assert [ask(tmp_path), ask(tmp_path)] == [[1, 0], [1, 1]]
    (package / "cpu" / "callee.py").write_text(CALLEE.format(2))
    assert ask(tmp_path) == [2, 0]
