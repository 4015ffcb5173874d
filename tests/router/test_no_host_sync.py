"""No step of the plugin waits for the device, nor multiplies more matrices than it has to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from host_sync import HostSyncError, forbidden
from scripts import run

# What must have been launched; vLLM's own kernels run between ours.
CONFIDENCE = ["_sums_kernel", "_select_kernel"]
OURS = {
    "ops on one row": [*CONFIDENCE, "_decide_kernel", "_mix_kernel"],
    "ops on many rows": [*CONFIDENCE, "_decide_kernel", "_mix_kernel"],
    "staged writes": [],
    "overlay": ["_mix_kernel"],
    "overlay of a shard": ["_mix_kernel"],
    "sampler": [*CONFIDENCE, "_decide_kernel"],
    "latent steps": [],
}
VOCAB, HIDDEN = 1000, 64
# Factors of the products by the embedding's table, of which a narrow one takes weights in two parts.
PRODUCTS = {
    "sampler": [[[1, VOCAB], [VOCAB, HIDDEN]]],
    "sampler of many that mix all": [[[3, VOCAB], [VOCAB, HIDDEN]]],
    "sampler of a narrow table": [[[6, VOCAB], [VOCAB, HIDDEN]]],
    "sampler without the rows that mix all": [],
    "sampler of ended requests": [],
}
WAITS: dict[str, Callable[[torch.Tensor], Any]] = {
    "item": lambda x: x.item(),
    "tolist": lambda x: x.tolist(),
    "bool": lambda x: bool(x.any()),
    "int": lambda x: int(x[0]),
    "float": lambda x: float(x.max()),
    "index": lambda x: range(10)[x[0]],
    "loop": lambda x: [int(y) for y in x],
    "numpy": lambda x: x.numpy(),
    "cpu": lambda x: x.cpu(),
    "to the host": lambda x: x.to("cpu", non_blocking=True),
    "equal": lambda x: torch.equal(x, x),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "assigned mask": lambda x: x.__setitem__(x > 0, 0),
    "blocking copy": lambda x: x.copy_(torch.zeros(4)),
    "blocking upload": lambda x: torch.zeros(4).to(x.device),
    "indices on the host": lambda x: x[torch.tensor([0, 1])],
    "assigned indices": lambda x: x.__setitem__(torch.tensor([0, 1]), 0),
    "uploaded list": lambda x: torch.tensor([1, 2], device=x.device),
}


@pytest.mark.parametrize("wait", WAITS)
def test_the_guard_sees(wait: str) -> None:
    with forbidden(), pytest.raises(HostSyncError):
        WAITS[wait](torch.empty(4, dtype=torch.int64, device="meta"))


def test_the_guard_lets_pass_what_does_not_wait() -> None:
    x = torch.empty(4, device="meta")
    with forbidden():
        rows = torch.tensor([1, 2]).to(x.device, non_blocking=True)
        x[rows] = x[rows] + 1
        x.copy_(torch.zeros(4), non_blocking=True)
        assert torch.zeros(4).tolist() == [0.0] * 4


def start_ahead(_folder: Path) -> Callable[[], list[Any]]:
    """Go through all scenes."""
    return lambda: run("router/step_path.py")


@pytest.mark.parametrize("scene", OURS)
def test_the_step_path_does_not_wait(made_ahead: list[Any], scene: str) -> None:
    launched = {name: kernels for name, kernels, _ in made_ahead}
    ours = {*CONFIDENCE, "_decide_kernel", "_mix_kernel"}
    assert [name for name in launched[scene] if name in ours] == OURS[scene]


@pytest.mark.parametrize("scene", PRODUCTS)
def test_a_step_has_one_product_where_a_row_mixes_all(made_ahead: list[Any], scene: str) -> None:
    """However many do, and none where none of its rows does."""
    assert {name: products for name, _, products in made_ahead}[scene] == PRODUCTS[scene]


def test_a_step_that_mixes_all_launches_nothing_else(made_ahead: list[Any]) -> None:
    """Its kernels are torch's, so that there is nothing to compile when the engine starts."""
    launched = {name: kernels for name, kernels, _ in made_ahead}
    assert launched["sampler"] == launched["sampler of ended requests"]
