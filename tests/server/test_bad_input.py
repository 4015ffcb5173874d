"""What a server refuses: status, OpenAI error with key, value and remedy, and life afterwards."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx
import pytest

from server.serving import CONTEXT, MODEL, Server, wait_for
from server.talk import CHAT, CHAT_ROUTE, COLD_STOP, LONG, QUESTION, assert_error, assert_serves

NAN = float("nan")
ROUTED = {"reasoning_mode": "routed"}


def send(server: Server, fields: dict[str, Any], path: str = CHAT_ROUTE) -> httpx.Response:
    """A chat request with these fields; httpx would not write a NaN."""
    content = json.dumps({**CHAT, **fields})
    with server.http() as client:
        return client.post(path, content=content, headers={"Content-Type": "application/json"})


def routed(**routing: Any) -> dict[str, Any]:
    return {"reasoning_mode": "routed", "routing": routing}


OURS = [
    ({"reasoning_mode": "quiet"}, "reasoning_mode", "'quiet'", "'explicit', 'latent', 'routed'"),
    ({"reasoning_mode": 5}, "reasoning_mode", "5", "must be one of"),
    ({"reasoning_mode": False}, "reasoning_mode", "False", "must be one of"),
    ({"reasoning_mode": ["routed"]}, "reasoning_mode", "['routed']", "must be one of"),
    (routed(policy="best"), "routing.policy", "'best'", "'thinkrouter'"),
    (routed(policy="soft"), "routing.policy", "'soft'", "not for routed", "'thinkrouter'"),
    (routed(policy="observe"), "routing.policy", "'observe'", "'thinkrouter'"),
    (
        {"reasoning_mode": "latent", "routing": {"policy": "thinkrouter"}},
        "routing.policy", "'thinkrouter'", "use one of ['soft', ",
    ),
    ({"reasoning_mode": "latent", "routing": {"policy": "observe"}}, "routing.policy", "'soft'"),
    (routed(threshold=0), "routing.threshold", "0", "(0, 1]"),
    (routed(threshold=-1), "routing.threshold", "-1", "(0, 1]"),
    (routed(threshold=1.5), "routing.threshold", "1.5", "(0, 1]"),
    (routed(threshold=NAN), "routing.threshold", "nan", "(0, 1]"),
    (routed(threshold="x"), "routing.threshold", "'x'", "(0, 1]"),
    (routed(threshold=True), "routing.threshold", "True", "(0, 1]"),
    (routed(top_n=0), "routing.top_n", "0", "from 1 to 32"),
    (routed(top_n=33), "routing.top_n", "33", "from 1 to 32"),
    (routed(top_n=2.5), "routing.top_n", "2.5", "from 1 to 32"),
    (routed(confidence="cold"), "routing.confidence", "'cold'", "'tempered', 'raw'"),
    (routed(mix_temperature=0), "routing.mix_temperature", "0", "0.01 to 100"),
    (routed(mix_temperature=float("inf")), "routing.mix_temperature", "inf", "0.01 to 100"),
    (routed(soft_share=2), "routing.soft_share", "2", "from 0 to 1"),
    (routed(cold_stop=[1]), "routing.cold_stop", "[1]", "object"),
    (routed(cold_stop={"steps": -1}), "routing.cold_stop.steps", "-1", "integer from 0"),
    (routed(cold_stop={"entropy": "low"}), "routing.cold_stop.entropy", "'low'", "number of nats"),
    ({"reasoning_mode": "routed", "routing": [1]}, "routing", "[1]", "must be an object"),
    ({"reasoning_mode": "routed", "routing": []}, "routing", "[]", "must be an object"),
    ({"reasoning_mode": "routed", "routing": "{"}, "routing", "'{'", "JSON object"),
    ({"routing": {"threshold": 0.5}}, "routing", "0.5", "latent or routed"),
    (routed(soft_share=0.5), "routing.soft_share", "0.5", "not read by policy thinkrouter", "'random'"),
    ({"shortcuts": {"depth": 0.5}}, "shortcuts", "0.5", "leave it out"),
    ({"include_reasoning_trace": "maybe"}, "include_reasoning_trace", "'maybe'", "true or false"),
    ({"reasoning_mode": "routed", "vllm_xargs": 5}, "vllm_xargs", "5", "must be an object"),
    ({"vllm_xargs": {"reasoning_mode": "quiet"}}, "reasoning_mode", "'quiet'", "must be one of"),
    ({"vllm_xargs": {"reasoning_mode": "routed", "routing": "[]"}}, "routing", "must be an object"),
    ({"reasoning_mode": "routed", "use_beam_search": True}, "use_beam_search", "True", "drop one"),
    (
        {"include_reasoning_trace": True, "use_beam_search": True},
        "use_beam_search", "reasoning trace",
    ),
]  # fmt: skip


@pytest.mark.parametrize("row", OURS, ids=lambda row: json.dumps(row[0])[:60])
def test_our_fields(server: Server, row: tuple[Any, ...]) -> None:
    fields, param, *words = row
    error = assert_error(send(server, fields), 400, "invalid_value", param, *words)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert_serves(server)


@pytest.mark.parametrize("path", ["routing.bogus", "routing.cold_stop.bogus"])
def test_unknown_key(server: Server, path: str) -> None:
    routing = {"bogus": 1} if path == "routing.bogus" else {"cold_stop": {"bogus": 1}}
    response = send(server, routed(**routing))
    error = assert_error(response, 400, "unknown_parameter", path, "is unknown; use one of")
    assert error["param"] == path
    assert_serves(server)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/completions", {"prompt": "a"}),
        ("/v1/responses", {"input": "a"}),
        ("/v1/messages", {}),
        ("/v1/chat/completions/batch", {"messages": [QUESTION]}),
        ("/invocations", {}),
    ],
)
def test_every_endpoint_refuses(server: Server, path: str, fields: dict[str, Any]) -> None:
    response = send(server, {**fields, **routed(threshold=7)}, path)
    error = assert_error(response, 400, "invalid_value", "routing.threshold", "7", "(0, 1]")
    assert error["param"] == "routing.threshold"
    assert_serves(server)


def test_our_fields_where_nothing_reads_them(server: Server) -> None:
    path = "/inference/v1/generate"
    response = send(server, {"token_ids": [70], "reasoning_mode": "routed"}, path)
    error = assert_error(response, 400, "unknown_parameter", path, CHAT_ROUTE, "vllm_xargs")
    assert error["param"] == "reasoning_mode"
    assert_serves(server)


VLLMS = [
    ({"max_tokens": "many"}, "max_tokens", "many", "valid integer"),
    ({"max_tokens": -1}, "max_tokens", "-1", "at least 1"),
    ({"max_tokens": 10**30}, "max_tokens", str(10**30), "fewer output tokens"),
    ({"temperature": "hot"}, "temperature", "hot", "valid number"),
    ({"temperature": -1}, "temperature", "-1", "non-negative"),
    ({"temperature": 1e300}, "temperature", "1e+300", "[0, 2]"),
    ({"top_p": 3}, "top_p", "3", "(0, 1]"),
    ({"n": "two"}, "n", "two", "valid integer"),
    ({"seed": "a"}, "seed", "'a'", "valid integer"),
    ({"stop": 5}, "stop", "5", "valid string", "valid list"),
    ({"stream": "maybe"}, "stream", "maybe", "valid boolean"),
    ({"logprobs": "x"}, "logprobs", "'x'", "valid boolean"),
    ({"messages": "hi"}, "messages", "hi", "valid list"),
    ({"vllm_xargs": {"a": {}}}, "vllm_xargs", "valid"),
]


@pytest.mark.parametrize("mode", ["explicit", "routed"])
@pytest.mark.parametrize("row", VLLMS, ids=lambda row: json.dumps(row[0])[:40])
def test_vllms_fields(server: Server, mode: str, row: tuple[Any, ...]) -> None:
    fields, param, *words = row
    response = send(server, {"reasoning_mode": mode, **fields})
    error = assert_error(response, 400, "invalid_request", param, *words)
    assert (error["param"] or "").startswith(param)
    assert_serves(server)


# Legal in vLLM, and further out than any 32-bit integer, or any finite logit.
EXTREMES = [
    {"top_k": 2**31}, {"top_k": 2**62}, {"stop_token_ids": [2**31]}, {"stop_token_ids": [-5]},
    {"repetition_penalty": 1e-40}, {"repetition_penalty": 1e30}, {"temperature": 1e-30},
    {"seed": 2**63 - 1}, {"min_p": 1.0}, {"top_p": 1e-9}, {"presence_penalty": -2.0},
]  # fmt: skip


@pytest.mark.parametrize("mode", ["explicit", "latent", "routed"])
@pytest.mark.parametrize("fields", EXTREMES, ids=str)
def test_extremes_are_survived(server: Server, mode: str, fields: dict[str, Any]) -> None:
    ours = {"reasoning_mode": mode, "include_reasoning_trace": True, **fields}
    response = send(server, ours)
    assert response.status_code in (200, 400), response.text
    if response.status_code == 200:
        steps = response.json()["choices"][0]["routing"]["trace"]
        assert all(0 <= step["p_max"] <= 1 and step["entropy"] >= 0 for step in steps)
    assert_serves(server)


def test_more_candidates_without_a_length(server: Server) -> None:
    """The length that vLLM fills in is no reason to refuse what the client did ask for."""
    fields = {**CHAT, "reasoning_mode": "latent", "routing": {"top_n": 32, **COLD_STOP}}
    del fields["max_tokens"]
    with server.http() as client:
        response = client.post(CHAT_ROUTE, json=fields)
    assert response.status_code == 200, response.text
    assert response.json()["usage"]["completion_tokens"] > 0


def test_prompt_over_the_context(server: Server) -> None:
    messages = [{"role": "user", "content": "Hi " * CONTEXT}]
    for mode in ("explicit", "latent"):
        response = send(server, {"messages": messages, "reasoning_mode": mode})
        assert_error(response, 400, "context_length_exceeded", str(CONTEXT), "reduce the length")
    assert_serves(server)


def test_unknown_model(server: Server) -> None:
    for path, code in ((CHAT_ROUTE, "model_not_found"), ("/v1/messages", "not_found")):
        response = send(server, {"model": "nope", "reasoning_mode": "routed"}, path)
        assert_error(response, 404, code, "nope", MODEL)
    assert_serves(server)


def test_too_many_stop_ids(server: Server) -> None:
    fields = {"stop_token_ids": list(range(10, 60))}
    response = send(server, {**fields, "reasoning_mode": "routed"})
    error = assert_error(response, 400, "invalid_request", "stop_token_ids", "32")
    assert error["param"] == "stop_token_ids"
    assert send(server, fields).status_code == 200
    assert_serves(server)


BODIES = [
    (b"", "Expecting value"),
    (b'{"model": "tiny",', "line 1"),
    (b"[1, 2]", "list"),
    (b'"hi"', "str"),
    (b"null", "NoneType"),
    (b"\xff\xfe\x00", "object"),
    (b"[" * 100_000, "recursion"),
    (b'{"seed": ' + b"1" * 5000 + b"}", "digits"),
    (json.dumps({**CHAT, "temperature": NAN}).encode(), "NaN"),
    (json.dumps({**CHAT, "logit_bias": {"5": -float("inf")}}).encode(), "-Infinity"),
]


@pytest.mark.parametrize("path", [CHAT_ROUTE, "/v1/completions", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize(("content", "word"), BODIES, ids=lambda part: str(part)[:20])
def test_malformed_body(server: Server, path: str, content: bytes, word: str) -> None:
    with server.http() as client:
        response = client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert_error(response, 400, "invalid_json", word, "send")
    assert_serves(server)


def test_text_that_is_no_text(server: Server) -> None:
    """Half of a surrogate pair: JSON can spell it, UTF-8 cannot."""
    assert send(server, {"messages": [{"role": "user", "content": "\ud800"}]}).status_code < 500
    assert_serves(server)


def test_wrong_content_type(server: Server) -> None:
    with server.http() as client:
        response = client.post(CHAT_ROUTE, content=json.dumps(CHAT))
    assert_error(response, 400, "invalid_request", "application/json")
    assert_serves(server)


def test_wrong_routes(server: Server) -> None:
    with server.http() as client:
        assert_error(client.get("/v1/nope"), 404, "not_found")
        assert_error(client.post("/v1/nope", json={}), 404, "not_found")
        assert_error(client.get(CHAT_ROUTE), 405, "method_not_allowed")
        assert_error(
            client.post("/tokenize", json={}), 400, "invalid_request", "prompt", "required"
        )
        assert client.get("/playground").status_code == 404
    assert_serves(server)


@pytest.mark.parametrize("streams", [True, False], ids=["stream", "whole"])
def test_client_that_hangs_up(server: Server, streams: bool) -> None:
    """The engine drops its request, and does not finish it for nobody."""
    assert wait_for(server.is_idle, 30)
    num_finished = server.metric("vllm:request_success_total")
    client = server.http(timeout=httpx.Timeout(60, read=None if streams else 0.3))
    work = {**LONG, **ROUTED, "n": 64}  # eight at a time: seconds of work on any machine
    if streams:
        with client.stream("POST", CHAT_ROUTE, json={**work, "stream": True}) as response:
            lines = response.iter_lines()  # the stream lives as long as this does
            next(lines)
            with server.frozen_engine():
                assert wait_for(lambda: not server.is_idle(), 30)
    else:
        with server.frozen_engine(), pytest.raises(httpx.ReadTimeout):
            client.post(CHAT_ROUTE, json=work)
    client.close()
    assert wait_for(server.is_idle, 30)
    assert server.metric("vllm:request_success_total") == num_finished
    assert_serves(server)
    assert "Exception in ASGI" not in server.log


def test_client_that_hangs_up_in_its_body(server: Server) -> None:
    def unfinished() -> Any:
        yield json.dumps(CHAT).encode()
        raise ConnectionAbortedError

    with server.http() as client, pytest.raises(ConnectionAbortedError):
        client.post(CHAT_ROUTE, content=unfinished())
    assert wait_for(server.is_idle, 30)
    assert_serves(server)


def test_mixed_good_and_bad(server: Server) -> None:
    """Good requests that run beside bad ones are answered."""
    statuses: list[int] = []

    def good() -> None:
        statuses.append(send(server, {"reasoning_mode": "latent"}).status_code)

    threads = [threading.Thread(target=good) for _ in range(4)]
    for thread in threads:
        thread.start()
        assert send(server, routed(threshold=9)).status_code == 400
    for thread in threads:
        thread.join()
    assert statuses == [200] * 4
