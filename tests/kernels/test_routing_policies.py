"""Each policy in `decide`: against the reference, and the reference against the papers' formulas."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from decided import check_equal, decided, fed, routes, run_both, run_reference, soft_rows
from scenes import Scene, make_scene, make_thinking_scene

from sottovoce_kernels.layout import (
    FORCED_LOGIT,
    FloatParam,
    IntParam,
    Phase,
    Policy,
    Route,
    State,
)
from sottovoce_kernels.reference_policies import gumbel

NEVER_SOFT = (Policy.NONE, Policy.ADAPTIVE_GREEDY, Policy.OBSERVE)


@pytest.fixture(params=["numba", "triton"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    module = importlib.import_module("sottovoce_kernels.decide")
    monkeypatch.setattr(module, "uses_triton", lambda _: request.param == "triton")
    return str(request.param)


# Of the interpreter's seconds, one seed's: its rows hold every mix of parameters.
@pytest.mark.parametrize(
    ("backend", "seed"), [("numba", 1), ("numba", 2), ("triton", 1)], indirect=["backend"]
)
@pytest.mark.parametrize("policy", [p for p in Policy if p != Policy.NONE], ids=lambda p: p.name)
def test_every_policy_equals_the_reference(backend: str, policy: Policy, seed: int) -> None:
    want = make_thinking_scene(policy, 60, 300, seed)
    want.slots.state[:, State.STAY :] = make_scene(60, 300, torch.float32).slots.state[
        :, State.STAY :
    ]
    got = run_both(want)
    check_equal(got, want)
    soft = set() if policy in NEVER_SOFT else {Route.SOFT}
    assert set(routes(want)) == {Route.DISCRETE, Route.FORCED} | soft


def test_stochastic_noise_is_gumbels() -> None:
    ids = torch.arange(20000)
    g = gumbel(7, 3, ids)
    assert g.isfinite().all()
    assert float(g.mean()) == pytest.approx(0.5772, abs=0.03)
    assert float(g.var()) == pytest.approx(math.pi**2 / 6, rel=0.05)
    others = [gumbel(8, 3, ids), gumbel(7, 4, ids), gumbel(7, 3, ids + 1)]
    for other in others:
        assert abs(float(torch.corrcoef(torch.stack([g, other]))[0, 1])) < 0.03


def test_stochastic_feeds_the_noised_mixture() -> None:
    """tau log y - log w is the noise, up to one constant, whatever tau."""
    soft = decided(Policy.SOFT)
    for tau in (0.5, 1.0):
        scene = decided(Policy.STOCHASTIC, GUMBEL_TEMPERATURE=tau)
        for row in soft_rows(soft):
            w, y = fed(soft, row), fed(scene, row)
            assert w.keys() == y.keys()
            assert sum(y.values()) == pytest.approx(1, abs=1e-5)
            assert int(scene.sampled[row]) == max(y, key=lambda i: y[i])
            seed = int(scene.seeds[int(scene.slot_ids[row])])
            noise = gumbel(seed, int(scene.positions[row]) + 1, torch.tensor(list(w))).tolist()
            g = dict(zip(w, noise, strict=True))
            clear = [i for i in w if y[i] > 1e-6]
            offsets = [tau * math.log(y[i]) - math.log(w[i]) - g[i] for i in clear]
            assert offsets == pytest.approx([offsets[0]] * len(clear), abs=1e-3)
        moved = [r for r in soft_rows(soft) if int(soft.sampled[r]) != int(scene.sampled[r])]
        assert moved, "the best token is not always the one recorded"


def test_stochastic_never_feeds_a_special_token() -> None:
    scene = decided(Policy.STOCHASTIC)
    special = {i for i, s in enumerate(scene.markers.special.tolist()) if s}
    best = scene.logits.argmax(1).tolist()
    discrete = [r for r, route in enumerate(routes(scene)) if route == Route.DISCRETE]
    assert any(best[r] in special for r in discrete)
    assert not any(special & fed(scene, r).keys() for r in soft_rows(scene))


def spread_of(scene: Scene, row: int) -> float:
    """Entropy over its maximum, of the best top_n candidates alone, in float64."""
    slot = int(scene.slot_ids[row])
    n = int(scene.slots.ints[slot, IntParam.TOP_N])
    z = scene.logits[row].double() / float(scene.slots.floats[slot, FloatParam.TEMPERATURE])
    q = torch.softmax(z, 0).sort(descending=True).values[:n]
    q /= q.sum()
    return float(torch.special.entr(q).sum()) / math.log(n) if n > 1 else 0.0


def test_moi_blends_the_mixture_with_the_sampled_token() -> None:
    soft, moi = decided(Policy.SOFT), decided(Policy.MOI, BETA=1.5)
    sampled = make_thinking_scene(Policy.MOI, 60, 300).sampled.tolist()
    outside = 0
    for row in soft_rows(moi):
        w, y, h = fed(soft, row), sampled[row], spread_of(moi, row)
        want = {i: h * x / 2.5 for i, x in w.items()}
        want[y] = want.get(y, 0.0) + (2.5 - h) / 2.5
        assert int(moi.sampled[row]) == y
        assert fed(moi, row) == pytest.approx(want, abs=1e-5)
        assert sum(want.values()) == pytest.approx(1, abs=1e-5)
        outside += y not in w
    assert outside > 0, "a sampled token that the mixture does not hold"
    assert [int(moi.sampled[r]) for r in range(60) if routes(moi)[r] == Route.DISCRETE] == [
        sampled[r] for r in range(60) if routes(moi)[r] == Route.DISCRETE
    ]


def test_moi_is_explicit_where_the_sampled_token_is_special() -> None:
    scene = make_thinking_scene(Policy.MOI, 60, 300)
    special = scene.markers.special.nonzero().flatten()
    scene.sampled[:] = special[0]
    run_reference(scene)
    assert Route.SOFT not in routes(scene)
    assert int((scene.sampled == special[0]).sum()) > 40


def test_selar_gates_by_spread_and_pushes_off_the_best_token() -> None:
    soft = decided(Policy.SOFT)
    selar = decided(Policy.SELAR, ENTROPY_THRESHOLD=0.5, PUSH_OFF=2.0)
    sampled = make_thinking_scene(Policy.SELAR, 60, 300).sampled.tolist()
    negative = 0
    for row in soft_rows(soft):
        w, h, best = fed(soft, row), spread_of(selar, row), int(soft.sampled[row])
        assert (routes(selar)[row] == Route.SOFT) == (h >= 0.5)
        if h < 0.5:
            assert int(selar.sampled[row]) == sampled[row]
            continue
        want = {i: (1 + 2 * h) * x - (2 * h if i == best else 0) for i, x in w.items()}
        assert int(selar.sampled[row]) == best
        assert fed(selar, row) == pytest.approx(want, abs=1e-5)
        assert sum(want.values()) == pytest.approx(1, abs=1e-5)
        negative += min(want.values()) < 0
    assert negative > 0


@pytest.mark.parametrize("top_n", [1, 32])
@pytest.mark.parametrize("policy", [Policy.MOI, Policy.SELAR, Policy.SWI], ids=lambda p: p.name)
def test_the_narrowest_and_the_widest_mixture(backend: str, policy: Policy, top_n: int) -> None:
    want = make_thinking_scene(policy, 12, 20, seed=5)
    want.slots.ints[:, IntParam.TOP_N] = top_n
    want.slots.ints[:, IntParam.WIDTH] = top_n + 1
    check_equal(run_both(want), want)


@pytest.mark.parametrize("policy", [p for p in Policy if p != Policy.NONE], ids=lambda p: p.name)
def test_thinking_is_closed_at_a_position(policy: Policy) -> None:
    """Where the budget is not closing it already, in every policy, the explicit one's included."""
    scene = make_thinking_scene(policy, 60, 300)
    close_at = 30
    scene.slots.ints[:, IntParam.CLOSE_AT] = close_at
    indices = scene.positions + 1 - scene.slots.ints[0, IntParam.PROMPT_LEN]
    by_budget = scene.logits.max(1).values >= FORCED_LOGIT
    run_reference(scene)
    for row, slot in enumerate(scene.slot_ids.tolist()):
        state = scene.slots.state[slot].tolist()
        if int(indices[row]) >= close_at and not by_budget[row]:
            assert routes(scene)[row] == Route.FORCED
            assert int(scene.sampled[row]) == int(scene.markers.end[0])
            assert state[State.FORCING] == 1 or state[State.PHASE] in (Phase.ANSWER, Phase.OVER)
        else:
            assert state[State.FORCING] == 0
