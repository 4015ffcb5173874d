"""/metrics of real servers: ours beside vLLM's own, of one process and of two, and the arms."""

from __future__ import annotations

import math
from typing import Any

import pytest

from server.serving import Server, wait_for
from server.talk import BUDGET, CHAT, CHAT_ROUTE, LONG, MAX_TOKENS, body, post, read, scrape
from sottovoce_server.metrics import CLOSE_REASONS
from sottovoce_server.savings import CONTROL, TREATMENT, draw_arm

FRACTION = 0.5
MODES = {CONTROL: "explicit", TREATMENT: "latent"}


def num_requests(server: Server, mode: str, policy: str, outcome: str) -> float:
    """Requests that ended so."""
    return read(server, "requests_total", mode=mode, policy=policy, outcome=outcome)


def num_cancelled(server: Server) -> float:
    """Latent requests whose client hung up."""
    return num_requests(server, "latent", "soft", "cancelled")


def test_ours_beside_vllms(server: Server) -> None:
    names = {name for name, _ in scrape(server)}
    assert {"sottovoce_requests_total", "vllm:num_requests_running"} <= names


def test_usage_and_metrics_agree(server: Server) -> None:
    kinds = ("soft", "discrete", "forced")
    before = {kind: read(server, "steps_total", kind=kind) for kind in kinds}
    layers = read(server, "layer_executions_total", kind="run")
    ended = num_requests(server, "routed", "thinkrouter", "ok")
    details = post(server, body("routed"))["usage"]["completion_tokens_details"]
    for kind in kinds:
        steps = read(server, "steps_total", kind=kind) - before[kind]
        assert steps == details[f"{kind}_steps"]
    assert read(server, "layer_executions_total", kind="run") - layers == details["layers_run"]
    assert num_requests(server, "routed", "thinkrouter", "ok") == ended + 1


SWI = {"policy": "swi", "window": 1, "switch_budget": 1}


@pytest.mark.parametrize(
    ("reason", "mode", "routing"),
    [
        ("budget", "latent", {"cold_stop": None}),
        ("budget", "explicit", {}),
        ("cold_stop", "latent", {"cold_stop": {"entropy": 100, "steps": BUDGET - 2}}),
        ("min_answer", "latent", {"min_answer_tokens": MAX_TOKENS - 4}),
        ("min_answer", "explicit", {"min_answer_tokens": MAX_TOKENS - 4}),
        ("switch_budget", "routed", SWI),
        ("switch_budget", "routed", {**SWI, "mix": "full"}),
    ],
)
def test_forced_closes(server: Server, reason: str, mode: str, routing: dict[str, Any]) -> None:
    """The budget forces at BUDGET, what is tested before it; each is told from all others."""
    before = closes(server)
    post(server, body(mode, **({"routing": routing} if routing else {})))
    assert closes(server) == {**before, reason: before[reason] + 1}


def closes(server: Server) -> dict[str, float]:
    """Forced ends by reason."""
    return {reason: read(server, "forced_closes_total", reason=reason) for reason in CLOSE_REASONS}


def test_the_ledger_is_held_while_a_request_lives(server: Server) -> None:
    """More where it has vectors, and never more than there is."""
    assert read(server, "ledger_bytes") == 0
    held = []
    for routing in ({"policy": "swi"}, {"policy": "swi", "mix": "full"}):
        ours = {"reasoning_mode": "routed", "routing": routing, "stream": True, "max_tokens": 400}
        request = {**LONG, **ours}  # of one more term a position the ledger holds fewer
        with server.http() as client, client.stream("POST", CHAT_ROUTE, json=request) as response:
            assert response.status_code == 200, response.read()
            lines = response.iter_lines()
            assert sum(bool(next(lines)) for _ in range(8)) > 2
            held.append(read(server, "ledger_bytes"))
        assert wait_for(lambda: read(server, "ledger_bytes") == 0, 30)
    assert 0 < held[0] < held[1] < read(server, "ledger_limit_bytes")


def test_refused(server: Server) -> None:
    before = read(server, "rejections_total", reason="invalid_value")
    with server.http() as client:
        assert client.post(CHAT_ROUTE, json=body("loud")).status_code == 400
    assert read(server, "rejections_total", reason="invalid_value") == before + 1
    ended = num_requests(server, "latent", "soft", "refused")
    with server.http() as client:
        assert client.post(CHAT_ROUTE, json=body("latent", max_tokens=10**6)).status_code == 400
    assert num_requests(server, "latent", "soft", "refused") == ended + 1


def total(server: Server, name: str, **labels: str) -> float:
    """The sum of all series with these labels, whatever their others are."""
    series = scrape(server).items()
    return sum(v for (of, having), v in series if of == name and labels.items() <= having)


def test_what_the_gateway_refuses_vllm_does_not_count(server: Server) -> None:
    """The dashboard Serving shows vLLM's count of answers, and all refusals less vLLM's own."""

    def counts() -> tuple[float, float]:
        refused = total(server, "sottovoce_rejections_total")
        refused -= total(server, "sottovoce_requests_total", outcome="refused")
        return total(server, "http_requests_total", status="4xx"), refused

    of_vllm, of_gateway = counts()
    with server.http() as client:
        assert client.post(CHAT_ROUTE, json=body("loud")).status_code == 400
        assert counts() == (of_vllm, of_gateway + 1)
        assert client.post(CHAT_ROUTE, json=body("latent", max_tokens=10**6)).status_code == 400
        assert counts() == (of_vllm + 1, of_gateway + 1)


def test_hung_up(server: Server) -> None:
    before = num_cancelled(server)
    request = {**LONG, "reasoning_mode": "latent", "stream": True}
    with server.http() as client, client.stream("POST", CHAT_ROUTE, json=request) as response:
        next(response.iter_lines())
    assert wait_for(lambda: num_cancelled(server) == before + 1, 30)


def test_arms_of_two_processes(metered: Server) -> None:
    """Each request is in its id's arm, and both processes' requests are in one window."""
    num = {CONTROL: 0, TREATMENT: 0}
    lengths = dict(num)
    for request_id in (f"request-{i}" for i in range(24)):
        arm = draw_arm(request_id, FRACTION)
        request = {**CHAT, "thinking_token_budget": BUDGET}
        with metered.http() as client:  # a connection of its own, so that both processes get some
            response = client.post(CHAT_ROUTE, json=request, headers={"X-Request-Id": request_id})
        assert response.headers["x-request-id"] == request_id
        answer = response.json()
        assert (answer["routing"]["arm"], answer["routing"]["mode"]) == (arm, MODES[arm])
        num[arm] += 1
        lengths[arm] += answer["usage"]["completion_tokens_details"]["reasoning_tokens"]
    for arm in (CONTROL, TREATMENT):
        assert read(metered, "saving_window_requests", arm=arm) == num[arm] > 0
        assert read(metered, "saving_window_tokens", arm=arm) == lengths[arm]
        assert read(metered, "reasoning_length_tokens_sum", arm=arm) == lengths[arm]


def test_too_few_requests_are_no_evidence(metered: Server) -> None:
    assert math.isnan(read(metered, "saving_ratio"))
    assert read(metered, "saving_has_evidence") == 0


def test_an_arm_without_an_id(metered: Server) -> None:
    """The id that was made up for the draw is the one in the answer."""
    with metered.http() as client:
        response = client.post(CHAT_ROUTE, json={**CHAT, "max_tokens": 1})
    arm = draw_arm(response.headers["x-request-id"], FRACTION)
    assert response.json()["routing"]["arm"] == arm
