"""What the plugin changes about vLLM's processes on a CPU."""

from __future__ import annotations

import pytest
import torch

from scripts import run


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's engine is left as it is")
def test_a_waiting_process_sleeps_and_leaves_its_core() -> None:
    (seen,) = run("router/queue_wait.py")
    (nap,) = seen["naps"]
    assert 0 < nap < 1e-3
    assert seen["yields"] == 0
    assert seen["polls"] == [2, 7], "at most 2 ms for the writer's word; once idle, as vLLM has it"
