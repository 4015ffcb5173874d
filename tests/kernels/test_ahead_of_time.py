"""The routing kernels compile for sm_80, sm_90 and sm_100, and spill no registers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts import run

# Upper bounds a thread, with room over what was measured (79, 128, 63 and 32) for another ptxas. A
# multiprocessor has 65,536: 88 leave five programs of four warps that read logits on each.
MAX_REGISTERS = {
    "_sums_kernel": 88, "_select_kernel": 144, "_decide_kernel": 72, "_mix_kernel": 40,
}  # fmt: skip


def compiled(**arguments: Any) -> list[dict[str, Any]]:
    return run("kernels/compile_kernels.py", json.dumps(arguments))


def start_ahead(_folder: Path) -> Callable[[], dict[str, Any]]:
    """All of them, and some with too few registers."""
    return lambda: {"rows": compiled(), "starved": compiled(batches=[33], maxnreg=32)}


@pytest.fixture
def rows(made_ahead: dict[str, Any]) -> list[dict[str, Any]]:
    return made_ahead["rows"]


def test_every_kernel_compiles_for_every_architecture(rows: list[dict[str, Any]]) -> None:
    wanted = {(kernel, arch) for kernel in MAX_REGISTERS for arch in (80, 90, 100)}
    assert {(row["kernel"], row["arch"]) for row in rows} == wanted
    splits = {row["grid"][1] for row in rows if row["kernel"] == "_sums_kernel"}
    assert splits == {4, 30, 50}


def test_nothing_spills(rows: list[dict[str, Any]]) -> None:
    assert [row for row in rows if row["spilled_bytes"] > 0] == []


@pytest.mark.parametrize("kernel", MAX_REGISTERS)
def test_registers_stay_within_bounds(rows: list[dict[str, Any]], kernel: str) -> None:
    most = max((row for row in rows if row["kernel"] == kernel), key=lambda row: row["registers"])
    assert most["registers"] <= MAX_REGISTERS[kernel], most


def test_a_spill_would_be_seen(made_ahead: dict[str, Any]) -> None:
    spilling = {row["kernel"] for row in made_ahead["starved"] if row["spilled_bytes"] > 0}
    assert "_sums_kernel" in spilling


def test_logits_and_embedding_rows_are_read_16_bytes_at_a_time(rows: list[dict[str, Any]]) -> None:
    """A block of 1,024 logits by 128 threads, now and ahead: 2 loads each in bfloat16, 4 in float32."""
    for row in rows:
        if row["kernel"] == "_sums_kernel":
            assert row["loads_of_16_bytes"] == (2 if "bfloat16" in row["dtype"] else 4), row
        if row["kernel"] == "_mix_kernel":
            assert row["loads_of_16_bytes"] >= 2, row  # a term's, and the vector's
