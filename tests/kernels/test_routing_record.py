"""What `decide` records besides routes: why an end was forced, and what a preemption replayed."""

from __future__ import annotations

import importlib

import pytest
import torch
from decided import check_equal, routes, run_both
from scenes import make_swi_scene, make_thinking_scene

from sottovoce_kernels.layout import (
    FORCED_LOGIT,
    Cause,
    FloatParam,
    IntParam,
    Phase,
    Policy,
    Route,
    State,
)


@pytest.fixture(params=["numba", "triton"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    module = importlib.import_module("sottovoce_kernels.decide")
    monkeypatch.setattr(module, "uses_triton", lambda _: request.param == "triton")
    return str(request.param)


def test_what_forced_an_end_is_recorded(backend: str) -> None:
    """At a close's first step alone; where several causes meet, the one that comes first here."""
    scene = make_swi_scene(1, 100.0, switches=2)
    indices = scene.positions + 1 - 5
    cold, spent, late = (torch.arange(60) % n == 0 for n in (3, 4, 5))
    scene.slots.ints[scene.slot_ids, IntParam.COLD_STEPS] = cold.int()
    scene.slots.floats[:, FloatParam.COLD_ENTROPY] = 100.0
    scene.slots.ints[scene.slot_ids, IntParam.SWITCH_BUDGET] = 2 * spent.int()
    scene.slots.ints[scene.slot_ids[late], IntParam.CLOSE_AT] = indices[late].int()
    goes_on = torch.arange(60) % 7 == 0
    scene.slots.state[scene.slot_ids[goes_on], State.FORCING] = 1
    check_equal(run_both(scene), scene)
    by_budget = (scene.logits.max(1).values >= FORCED_LOGIT).tolist()
    causes = (scene.record.ids[:, 1] % 8).tolist()
    for row in range(60):
        met = [
            (Cause.COLD_STOP, cold[row]), (Cause.SWITCH_BUDGET, spent[row]),
            (Cause.BUDGET, by_budget[row]), (Cause.MIN_ANSWER, late[row]),
        ]  # fmt: skip
        first = next((cause for cause, holds in met if holds), Cause.NONE)
        assert causes[row] == (Cause.NONE if goes_on[row] else first)
        if first != Cause.NONE:
            assert routes(scene)[row] == Route.FORCED
    assert set(causes) == set(Cause)


def test_the_first_step_in_a_slot_is_recorded(backend: str) -> None:
    """Where the last token was known when the request came, or came back, in every phase."""
    scene = make_thinking_scene(Policy.SOFT, 60, 300)
    scene.slots.state[:20, State.PHASE] = Phase.ANSWER
    at = scene.positions[:] + 1
    scene.positions[40:] = 4  # a first token follows its prompt
    scene.prefill_lens[scene.slot_ids] = torch.where(torch.arange(60) % 2 == 0, at, 5).int()
    scene.prefill_lens[scene.slot_ids[40:]] = 5
    check_equal(run_both(scene), scene)
    flags = (scene.record.ids[:, 1] // 8).tolist()
    assert flags == [int(row >= 40 or row % 2 == 0 or at[row] == 5) for row in range(60)]
    assert 0 < sum(flags[:40]) < 40


@pytest.mark.parametrize("phase", [Phase.BEFORE, Phase.ANSWER])
def test_a_policy_of_all_phases_feeds_and_records_nothing(backend: str, phase: Phase) -> None:
    """Outside thinking it is soft, counts nothing, forces nothing, and leaves the phase alone."""
    thinking = make_thinking_scene(Policy.MOI, 60, 300)
    scene = make_thinking_scene(Policy.MOI, 60, 300)
    scene.slots.ints[:, IntParam.ALL_PHASES] = 1
    scene.slots.ints[:, IntParam.COLD_STEPS], scene.slots.ints[:, IntParam.CLOSE_AT] = 1, 0
    scene.slots.floats[:, FloatParam.COLD_ENTROPY] = 100.0
    scene.slots.state[:, State.PHASE] = phase
    check_equal(run_both(scene), scene)
    run_both(thinking)
    assert set(routes(scene)) == {Route.NONE}
    assert (scene.record.ids[:, [0, *range(2, scene.record.ids.shape[1] - 1)]] == 0).all()
    assert (scene.record.ids[:, 1] % 8 == 0).all()
    assert (scene.record.values == 0).all()
    assert scene.sampled.tolist() == thinking.sampled.tolist()
    assert torch.equal(scene.ledger.counts, thinking.ledger.counts)
    assert int((scene.ledger.counts > 0).sum()) > 20
    others = [column for column in State if column != State.PHASE]
    assert (scene.slots.state[:, others] == 0).all()
    starts = Phase.THINK if phase == Phase.BEFORE else phase
    assert set(scene.slots.state[scene.slot_ids, State.PHASE].tolist()) <= {phase, starts}
