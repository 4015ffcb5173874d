"""Runs `decide` and its reference on one scene, compares them, and reads what they left."""

from __future__ import annotations

import math

import torch
from scenes import Scene, make_thinking_scene

from sottovoce_kernels import Confidence, decide, reference
from sottovoce_kernels.layout import FloatParam, IntParam, Policy, Route, State


def run_reference(scene: Scene) -> None:
    """The reference's `confidence` and `decide`, in place."""
    conf = reference.confidence(scene.logits, scene.slot_ids, scene.slots)
    reference.decide(
        conf, scene.sampled, scene.slot_ids, scene.positions, scene.prefill_lens, scene.seeds,
        scene.tokens, scene.slots, scene.ledger, scene.markers, scene.record,
    )  # fmt: skip


def run_both(want: Scene) -> Scene:
    """The scene as `decide` leaves it; `want` becomes what the reference leaves."""
    got = want.clone()
    conf = reference.confidence(got.logits, got.slot_ids, got.slots)
    run_reference(want)
    decide(
        conf, got.sampled, got.slot_ids, got.positions, got.prefill_lens, got.seeds,
        got.tokens, got.slots, got.ledger, got.markers, got.record,
    )  # fmt: skip
    return got


def check_confidence(
    got: Confidence, want: Confidence, row: int, n: int, rel: float = 1e-5
) -> None:
    """A row's best n exactly; its sums, float32 of up to 151,936 terms in another order."""
    a, b = want.top_logits[row, :n], got.top_logits[row, :n]
    torch.testing.assert_close(b, a, rtol=0, atol=0, msg="top_logits")
    live = a > -torch.inf
    assert torch.equal(got.top_ids[row, :n][live], want.top_ids[row, :n][live]), "top_ids"
    for name in ("sum_raw", "sum_mix"):
        x, y = float(getattr(got, name)[row]), float(getattr(want, name)[row])
        assert math.isclose(x, y, rel_tol=rel), name
    x, y = reference.entropy_of(got, row), reference.entropy_of(want, row)
    assert math.isclose(x, y, rel_tol=2e-5, abs_tol=2e-5), "entropy"


def check_equal(got: Scene, want: Scene) -> None:
    """Every output under its name; weights and sums are float32 in another order."""
    assert got.sampled.tolist() == want.sampled.tolist(), "recorded tokens"
    check_state(got.slots.state, want.slots.state)
    assert torch.equal(got.ledger.counts, want.ledger.counts), "ledger counts"
    check_state(got.ledger.state, want.ledger.state)
    assert torch.equal(got.ledger.ids, want.ledger.ids), "ledger ids"
    torch.testing.assert_close(
        got.ledger.weights, want.ledger.weights, rtol=1e-5, atol=1e-6, equal_nan=True
    )
    assert torch.equal(got.record.ids, want.record.ids), "record ids"
    torch.testing.assert_close(got.record.values, want.record.values, rtol=1e-4, atol=2e-5)


def check_state(got: torch.Tensor, want: torch.Tensor) -> None:
    """Equal, but for the reference, which is an entropy."""
    others = [column for column in State if column != State.REFERENCE]
    assert torch.equal(got[..., others], want[..., others]), "state"
    a, b = (x[..., State.REFERENCE].contiguous().view(torch.float32) for x in (got, want))
    torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5, equal_nan=True, msg="reference")


def fed(scene: Scene, row: int) -> dict[int, float]:
    """The ledger's entry for a row's step: token ids to weights; empty after a discrete step."""
    ints = scene.slots.ints[int(scene.slot_ids[row])].tolist()
    ledger_row = ints[IntParam.LEDGER_ROW]
    index = int(scene.positions[row]) + 1 - ints[IntParam.PROMPT_LEN]
    start = index * ints[IntParam.WIDTH]
    entry = slice(start, start + int(scene.ledger.counts[ledger_row, index]))
    ids, weights = scene.ledger.ids[ledger_row, entry], scene.ledger.weights[ledger_row, entry]
    return dict(zip(ids.tolist(), weights.tolist(), strict=True))


def routes(scene: Scene) -> list[int]:
    """The recorded route of every row."""
    found: list[int] = (scene.record.ids[:, 0] % 8).tolist()
    return found


def soft_rows(scene: Scene) -> list[int]:
    """The rows whose steps were soft."""
    return [row for row, route in enumerate(routes(scene)) if route == Route.SOFT]


def decided(policy: Policy, **floats: float) -> Scene:
    """A scene as the reference leaves it, with some parameters at one value everywhere."""
    scene = make_thinking_scene(policy, 60, 300)
    for name, value in floats.items():
        scene.slots.floats[:, FloatParam[name]] = value
    run_reference(scene)
    return scene
