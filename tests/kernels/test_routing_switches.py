"""`swi` in `decide`: against the reference, and the reference against the paper's rule."""

from __future__ import annotations

import importlib

import pytest
import torch
from decided import check_equal, decided, fed, routes, run_both, run_reference, soft_rows
from scenes import Scene, make_swi_scene, make_thinking_scene

from sottovoce_kernels.layout import IntParam, Phase, Policy, Route, State


@pytest.fixture(params=["numba", "triton"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    module = importlib.import_module("sottovoce_kernels.decide")
    monkeypatch.setattr(module, "uses_triton", lambda _: request.param == "triton")
    return str(request.param)


def swi_step(stay: int, reference: float, switches: int = 0, budget: int = 0) -> Scene:
    """What one step of the reference makes of it."""
    scene = make_swi_scene(stay, reference, switches, budget)
    run_reference(scene)
    return scene


@pytest.mark.parametrize(("stay", "reference"), [(-5, 100.0), (4, -1.0)], ids=["leave", "enter"])
def test_swi_equals_the_reference_where_it_switches(
    backend: str, stay: int, reference: float
) -> None:
    want = make_swi_scene(stay, reference)
    check_equal(run_both(want), want)


@pytest.mark.parametrize(
    ("stay", "reference", "then", "blend", "marker"),
    [
        (0, 0.0, -1, None, None),  # starts soft
        (-5, 0.0, -6, None, None),  # no entropy is below it
        (-5, 100.0, 1, 0.7, "natural_end"),  # every entropy is
        (4, -1.0, -1, 0.6, "start"),
    ],
)
def test_swi_feeds_mixtures(
    stay: int, reference: float, then: int, blend: float | None, marker: str | None
) -> None:
    swi = swi_step(stay, reference)
    soft = decided(Policy.SOFT, TEMPERATURE=1.0)
    sampled = make_thinking_scene(Policy.SWI, 60, 300).sampled.tolist()
    assert len(soft_rows(swi)) > 20
    for row in soft_rows(swi):
        slot, want = int(swi.slot_ids[row]), fed(soft, row)
        if blend is not None:
            index = int(swi.positions[row]) + 1 - int(swi.slots.ints[slot, IntParam.PROMPT_LEN])
            share = blend + (1 - blend) * index / int(swi.slots.ints[slot, IntParam.MAX_TOKENS])
            want = {token: share * weight for token, weight in want.items()}
            want[int(getattr(swi.markers, str(marker))[0])] = 1 - share
        assert fed(swi, row) == pytest.approx(want, abs=1e-5)
        assert int(swi.sampled[row]) == sampled[row], "the sampled token is recorded"
        state = swi.slots.state[slot]
        if int(state[State.PHASE]) == Phase.OVER:
            continue  # the sampled token ended thinking
        assert int(state[State.STAY]) == then
        assert int(state[State.SWITCHES]) == (1 if marker == "natural_end" else 0)
        entropy = float(swi.record.values[row, 1])
        kept = float(state[State.REFERENCE : State.REFERENCE + 1].view(torch.float32))
        assert kept == pytest.approx(reference if then < -1 else entropy, abs=1e-6)


@pytest.mark.parametrize(("stay", "reference"), [(3, -1.0), (4, 100.0), (900, 100.0)])
def test_swi_stays_discrete(stay: int, reference: float) -> None:
    """Within the window, or while the entropy is not above the reference."""
    scene = swi_step(stay, reference)
    assert Route.SOFT not in routes(scene)
    discrete = [r for r, route in enumerate(routes(scene)) if route == Route.DISCRETE]
    sampled = make_thinking_scene(Policy.SWI, 60, 300).sampled.tolist()
    for row in discrete:
        assert int(scene.sampled[row]) == sampled[row]
        state = scene.slots.state[int(scene.slot_ids[row])]
        assert int(state[State.STAY]) in (stay + 1, 0), "0: the sampled token ended thinking"


def test_swi_ends_thinking_when_its_budget_is_used_up() -> None:
    assert Route.SOFT in routes(swi_step(-1, 100.0, switches=1, budget=2))
    spent = swi_step(1, 100.0, switches=2, budget=2)
    assert set(routes(spent)) == {Route.FORCED}
    states = spent.slots.state[spent.slot_ids]
    assert set(states[:, State.PHASE].tolist()) <= {Phase.THINK, Phase.OVER}
    assert Route.SOFT in routes(swi_step(-1, 100.0, switches=2, budget=0))


# In the phase, after so many switches and tokens forced so far: which token of the end and the
# phrase is next, and the phase, switches and forced tokens after it; the budget is 2, the end has 2.
PAST_THE_BUDGET = [
    (Phase.THINK, 2, 1, 1, (Phase.ANSWER, 2, 0)),
    (Phase.ANSWER, 3, 0, 0, (Phase.ANSWER, 3, 1)),
    (Phase.ANSWER, 4, 1, 1, (Phase.ANSWER, 4, 0)),
    (Phase.ANSWER, 5, 0, 0, (Phase.ANSWER, 5, 1)),
    (Phase.ANSWER, 5, 1, 1, (Phase.ANSWER, 5, 2)),
    (Phase.ANSWER, 5, 2, 2, (Phase.ANSWER, 5, 3)),
    (Phase.ANSWER, 5, 3, 3, (Phase.OVER, 0, 0)),
]


@pytest.mark.parametrize(("phase", "switches", "forcing", "written", "then"), PAST_THE_BUDGET)
def test_swi_goes_on_in_all_phases(
    backend: str,
    phase: Phase,
    switches: int,
    forcing: int,
    written: int,
    then: tuple[Phase, int, int],
) -> None:
    """An end marker at each switch up to twice the budget, then a phrase, then nothing more."""
    want = make_swi_scene(1, 100.0, switches, budget=2)
    want.slots.ints[:, IntParam.ALL_PHASES] = 1
    want.slots.state[:, State.PHASE], want.slots.state[:, State.FORCING] = phase, forcing
    want.tokens[want.slot_ids, want.positions] = want.markers.end[0]
    check_equal(run_both(want), want)
    assert set(want.sampled.tolist()) == {int(want.markers.final[written])}
    columns = [State.PHASE, State.SWITCHES, State.FORCING, State.STAY]
    stay = 0 if then[0] == Phase.OVER else 2  # so that a switch forces one marker
    assert want.slots.state[want.slot_ids][:, columns].unique(dim=0).tolist() == [[*then, stay]]
    assert ((want.record.ids[:, 0] != 0) == (phase == Phase.THINK)).all()
    assert (want.record.ids[:, 1] % 8 == 0).all(), "one end of thinking, forced at its first token"


def test_swi_switches_on_in_the_answer(backend: str) -> None:
    """Until the model writes an end marker of its own; none of it is recorded."""
    want = make_swi_scene(-5, 100.0, 3, budget=2)
    want.slots.ints[:, IntParam.ALL_PHASES] = 1
    want.slots.state[:, State.PHASE] = Phase.ANSWER
    check_equal(run_both(want), want)
    switched = want.slots.state[want.slot_ids].tolist()
    after = {(s[State.PHASE], s[State.SWITCHES], s[State.STAY]) for s in switched}
    assert after >= {(Phase.ANSWER, 4, 1), (Phase.OVER, 0, 0)}
    assert int((want.ledger.counts > 0).sum()) > 20
    assert set(routes(want)) == {Route.NONE}


def test_nothing_is_soft_when_all_is_over(backend: str) -> None:
    want = make_swi_scene(-5, 100.0, 3, budget=2)
    want.slots.ints[:, IntParam.ALL_PHASES] = 1
    want.slots.state[:, State.PHASE] = Phase.OVER
    before = want.clone()
    check_equal(run_both(want), want)
    assert want.sampled.tolist() == before.sampled.tolist()
    assert torch.equal(want.slots.state, before.slots.state)
    assert int((want.ledger.counts > 0).sum()) == 0
