"""`warm_up`: it launches all that a step may launch, and changes nothing."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from scenes import HIDDEN, make_scene

from sottovoce_kernels import warm_up
from sottovoce_kernels.layout import IntParam, Policy

VOCAB = 60


def test_every_op_is_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = make_scene(4, VOCAB, torch.float32)
    scene.slots.ints[0, IntParam.POLICY] = Policy.NONE
    launched: list[str] = []
    module = importlib.import_module("sottovoce_kernels.warm_up")

    def noted(op: str, real: Any) -> Any:
        def call(*args: Any) -> Any:
            launched.append(op)
            return real(*args)

        return call

    for op in ("confidence", "decide", "mix"):
        monkeypatch.setattr(module, op, noted(op, getattr(module, op)))
    for op in ("confidence", "decide", "mix"):
        backend = importlib.import_module(f"sottovoce_kernels.{op}")
        monkeypatch.setattr(backend, "uses_triton", lambda _: True)
    before, embeds = scene.clone(), torch.randn(3, HIDDEN)
    untouched = embeds.clone()
    warm_up(
        embeds, torch.randn(VOCAB, HIDDEN), VOCAB, scene.prefill_lens, scene.seeds, scene.tokens,
        scene.slots, scene.ledger, scene.markers,
    )  # fmt: skip
    assert sorted(launched) == ["confidence", "decide", "mix"]
    assert torch.equal(embeds, untouched)
    for name in ("ids", "weights", "counts", "state", "vectors"):
        held, was = getattr(scene.ledger, name), getattr(before.ledger, name)
        assert torch.allclose(held.double(), was.double(), rtol=0, atol=0, equal_nan=True), name
    assert torch.equal(scene.slots.state, before.slots.state)
    assert torch.equal(scene.tokens, before.tokens)
