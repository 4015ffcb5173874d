"""What the metrics say once requests have passed the gateway, and who is in which arm."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from server.front import JSON, REQUEST, App, Front, watched
from server.stubs import END, completion, output
from sottovoce_router.observe import observer
from sottovoce_server import savings
from sottovoce_server.savings import CONTROL, TREATMENT, draw_arm

LATENT = {**REQUEST, "reasoning_mode": "latent"}


def count(front: Front, mode: str, policy: str, outcome: str) -> Any:
    """Requests."""
    labels = {"mode": mode, "policy": policy, "outcome": outcome}
    return front.metric("sottovoce_requests_total", **labels)


def refused(front: Front, code: str) -> Any:
    """Rejections."""
    return front.metric("sottovoce_rejections_total", reason=code)


def refusing(status: int, **error: Any) -> App:
    """An app that says no."""
    return App(status=status, parts=(json.dumps({"error": {"message": "m", **error}}).encode(),))


def test_a_request_and_its_work() -> None:
    front = Front(App(generates=watched(11, 12, END, finish_reason="stop")))
    front.post(LATENT)
    assert (front.metric("sottovoce_ledger_limit_bytes") or 0) > 0
    assert front.metric("sottovoce_ledger_bytes") == 0
    assert front.metric("sottovoce_replays_total") == 0
    assert count(front, "latent", "soft", "ok") == 1
    steps = {
        k: front.metric("sottovoce_steps_total", kind=k) for k in ("soft", "discrete", "forced")
    }
    assert steps == {"soft": 2, "discrete": 0, "forced": 1}
    assert front.metric("sottovoce_switches_total") == 0
    assert front.metric("sottovoce_forced_closes_total", reason="budget") == 1
    assert front.metric("sottovoce_layer_executions_total", kind="run") == 4
    assert front.metric("sottovoce_layer_executions_total", kind="skipped") == 0
    assert front.metric("sottovoce_reasoning_length_tokens_sum", arm="none") == 3
    assert front.metric("sottovoce_confidence_ratio_count", mode="latent") == 2
    assert front.metric("sottovoce_confidence_ratio_sum", mode="latent") == 1.0
    assert front.metric("sottovoce_saving_window_requests", arm="treatment") == 0


def test_the_effective_mode_is_counted() -> None:
    """Of a request that found no room in the ledger, as in its answer."""

    def generate() -> None:
        watch = observer.get()
        assert watch is not None
        watch(output("chatcmpl-a", completion(0, [11, END], [None, None])))

    front = Front(App(generates=generate))
    front.post(LATENT)
    assert (count(front, "explicit", "none", "ok"), count(front, "latent", "soft", "ok")) == (1, 0)


def test_a_traced_explicit_request_has_no_policy() -> None:
    front = Front(App())
    front.post({**REQUEST, "include_reasoning_trace": True})
    assert count(front, "explicit", "none", "ok") == 1


def test_refused_by_vllm() -> None:
    front = Front(refusing(404, param="model", code=404))
    front.post(LATENT)
    assert count(front, "latent", "soft", "refused") == 1
    assert refused(front, "model_not_found") == 1


def test_refused_by_an_unknown_code() -> None:
    front = Front(refusing(400, code="none_of_ours"))
    front.post(LATENT)
    assert (refused(front, "other"), refused(front, "invalid_request")) == (1, 0)


def test_refused_by_the_gateway() -> None:
    """Before it had a mode to count by."""
    front = Front(App(), keys=["a"])
    key = {"x-api-key": "a"}
    front.post({**REQUEST, "reasoning_mode": "loud"}, headers=key)
    front.post(REQUEST)
    front.ask("/docs", method="GET")
    assert (refused(front, "invalid_value"), refused(front, "invalid_api_key")) == (1, 2)
    assert count(front, "explicit", "none", "refused") == 0
    front.engine.shutdown()
    front.post(REQUEST, headers=key)
    front.ask("/ready", method="GET")  # a probe asks for nothing that could be refused
    assert refused(front, "draining") == 1


def test_a_failure_is_no_refusal() -> None:
    front = Front(refusing(500))
    front.post(LATENT)
    assert (count(front, "latent", "soft", "failed"), refused(front, "internal_error")) == (1, 0)


def answer(front: Front, request: dict[str, Any], **options: Any) -> Any:
    """The routing of a good answer."""
    response = front.post(request, **options)
    routing = json.loads(response.body)["routing"]
    assert response.headers["x-reasoning-mode"] == routing["mode"]
    return routing


def test_each_request_has_its_ids_arm() -> None:
    front = Front(App(), default_reasoning_mode="latent", control_fraction=0.5)
    modes = {CONTROL: "explicit", TREATMENT: "latent"}
    drawn = set()
    for request_id in map(str, range(12)):
        arm = draw_arm(request_id, 0.5)
        by_header = answer(front, REQUEST, headers={"x-request-id": request_id})
        by_body = answer(front, {**REQUEST, "request_id": request_id})
        for routing in (by_header, by_body):
            assert (routing["arm"], routing["mode"]) == (arm, modes[arm])
        drawn.add(arm)
    assert drawn == {CONTROL, TREATMENT}


def test_the_id_that_is_drawn_by_is_the_requests() -> None:
    """vLLM would make up another: the header that is added is the one it reads and answers with."""
    app = App()
    front = Front(app, default_reasoning_mode="latent", control_fraction=0.5)
    for _ in range(8):
        arm = answer(front, REQUEST)["arm"]
        assert draw_arm(app.asked[-1][1][b"x-request-id"].decode(), 0.5) == arm
    answer(front, {**REQUEST, "request_id": "mine"})
    assert b"x-request-id" not in app.asked[-1][1]
    Front(app).post(REQUEST)
    assert b"x-request-id" not in app.asked[-1][1]


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_mode": "latent"},
        {"reasoning_mode": "explicit"},
        {"vllm_xargs": {"reasoning_mode": "latent"}},
        {"routing": {"top_n": 3}},
    ],
    ids=str,
)
def test_who_chooses_is_in_no_arm(fields: dict[str, Any]) -> None:
    app = App(generates=watched(11, END, finish_reason="stop"))
    front = Front(app, default_reasoning_mode="latent", control_fraction=1.0)
    assert answer(front, {**REQUEST, **fields})["arm"] is None
    assert front.metric("sottovoce_reasoning_length_tokens_count", arm="none") == 1
    assert front.metric("sottovoce_saving_window_requests", arm="control") == 0


@pytest.mark.parametrize("reason", ["stop", "length", "abort", None])
def test_only_whole_requests_are_compared(reason: str | None) -> None:
    """What was cut short by its client, or goes on in the background, has no length yet."""
    app = App(generates=watched(11, 12, END, finish_reason=reason))
    front = Front(app, default_reasoning_mode="latent", control_fraction=1.0)
    assert answer(front, REQUEST)["arm"] == "control"
    is_whole = reason in ("stop", "length")
    assert front.metric("sottovoce_saving_window_requests", arm="control") == is_whole
    assert front.metric("sottovoce_saving_window_tokens", arm="control") == 3 * is_whole
    assert front.metric("sottovoce_reasoning_length_tokens_count", arm="control") == is_whole
    app.status = 500
    front.post(REQUEST)
    assert front.metric("sottovoce_saving_window_requests", arm="control") == is_whole


def test_a_scrape_brings_the_saving_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(savings, "MIN_REQUESTS", 4)
    app = App(headers=dict(JSON))
    front = Front(app, default_reasoning_mode="latent", control_fraction=0.5)
    for number in range(40):
        is_control = draw_arm(str(number), 0.5) == CONTROL
        length = (20 if is_control else 10) + number % 3
        app.generates = watched(*range(11, 11 + length), finish_reason="stop")
        front.post({**REQUEST, "request_id": str(number)})
    before = front.metric("sottovoce_saving_ratio")
    assert before is not None
    assert math.isnan(before)
    app.parts, app.generates = (b"# HELP",), lambda: None
    assert front.ask("/metrics", method="GET").body == b"# HELP"
    assert front.metric("sottovoce_saving_ratio") == pytest.approx(0.5, abs=0.1)
    assert front.metric("sottovoce_saving_has_evidence") == 1
