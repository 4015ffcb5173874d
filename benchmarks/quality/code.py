"""Runs a model's code against HumanEval's or MBPP's tests, in a process with limits.

The limits stop accidents (endless loops, too much memory), not malice: use a container for models you do not trust.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping

SECONDS = 10
_BYTES = 2 << 30


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def code_of(text: str) -> str:
    """The last fenced block, or else the whole text."""
    blocks = re.findall(r"```(?:python|py)?\s*\n(.*?)```", text, flags=re.DOTALL)
    return str(blocks[-1]) if blocks else text


def passes_asserts(asserts: str, text: str) -> bool:
    """Whether the answer passes MBPP's asserts, with the imports that they need before them."""
    return _runs("\n".join([code_of(text), asserts, "print('passed all')"]))


def passes_tests(problem: Mapping[str, str], text: str) -> bool:
    """Whether the answer passes `problem`'s tests; its prompt comes first, for imports and helpers.

    Args:
        problem: HumanEval's `prompt`, `test` and `entry_point`.
        text: the answer.
    """
    body = code_of(text)
    # A prompt is an unfinished function: its own words come back with a body, or a body follows it.
    is_whole = f"def {problem['entry_point']}" in body
    head = problem["prompt"] + ("    pass\n" if is_whole else "")
    return _runs("\n".join(
        [head + ("\n" if is_whole else "") + body, problem["test"],
         f"check({problem['entry_point']})", "print('passed all')"]
    ))  # fmt: skip


def _runs(program: str) -> bool:
    """Whether a program comes to its last line, which prints."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", program], cwd=folder, env={}, capture_output=True,
                timeout=SECONDS + 2, preexec_fn=_limit, text=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0 and done.stdout.endswith("passed all\n")
