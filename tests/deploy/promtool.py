"""Prometheus's own checker of rules and expressions."""

from __future__ import annotations

import shutil
import subprocess

import pytest

NEEDS_PROMTOOL = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed: `apt-get install prometheus`",
)


def promtool(*args: str) -> None:
    """Run it, and fail with what it says."""
    done = subprocess.run(["promtool", *args], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
