"""Keys, body and queue limits, and a model that cannot think."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from server.serving import Server, wait_for
from server.talk import CHAT, CHAT_ROUTE, assert_error, assert_serves, post

MAX_BODY = 20_000
GUARDED = (
    "/v1/models", "/version", "/docs", "/openapi.json", "/load", "/v1/responses/resp_1",
    "/v1/nope", "/playground", "/health/../version",
)  # fmt: skip
GENERATION = {
    CHAT_ROUTE: {},
    "/v1/completions": {"prompt": "a"},
    "/v1/responses": {"input": "a"},
    "/v1/messages": {},
    "/invocations": {},
}
OPEN = ("/health", "/ready", "/metrics", "/ping", "/", "/playground/main.js")
BAD_KEYS: dict[str, dict[str, str]] = {
    "none": {},
    "wrong": {"Authorization": "Bearer gamma"},
    "empty": {"Authorization": "Bearer"},
    "prefix": {"Authorization": "Bearer alph"},
    "both": {"Authorization": "Bearer alpha beta"},
    "no scheme": {"Authorization": "alpha"},
    "other scheme": {"Authorization": "Basic alpha"},
    "wrong x-api-key": {"x-api-key": "gamma"},
    "not ASCII": {"Authorization": "Bearer \u00e4lpha"},
}
GOOD_KEYS: dict[str, dict[str, str]] = {
    "first": {"Authorization": "Bearer alpha"},
    "second": {"Authorization": "Bearer beta"},
    "lower case": {"Authorization": "bearer alpha"},
    "as Anthropic's clients": {"x-api-key": "beta"},
}


@pytest.mark.parametrize("headers", BAD_KEYS.values(), ids=BAD_KEYS)
def test_bad_key(limited: Server, headers: dict[str, str]) -> None:
    encoded = {name: value.encode() for name, value in headers.items()}
    with limited.http(headers=encoded) as client:
        responses = [client.get(path) for path in GUARDED]
        responses += [client.post(path, json={**CHAT, **GENERATION[path]}) for path in GENERATION]
        responses += [client.post("/tokenize", json={"prompt": "a"})]
    for response in responses:
        assert_error(response, 401, "invalid_api_key", "Authorization: Bearer")
        assert response.headers["www-authenticate"] == "Bearer"
    assert_serves(limited)


@pytest.mark.parametrize("headers", GOOD_KEYS.values(), ids=GOOD_KEYS)
def test_good_key(limited: Server, headers: dict[str, str]) -> None:
    short = {**CHAT, "max_tokens": 1}
    with limited.http(headers=headers) as client:
        for path in (CHAT_ROUTE, "/v1/messages"):
            assert client.post(path, json=short).status_code == 200
        assert client.get("/version").status_code == 200
        assert client.post("/tokenize", json={"prompt": "a"}).status_code == 200


@pytest.mark.parametrize("path", OPEN)
def test_open_route(limited: Server, path: str) -> None:
    assert httpx.get(limited.base + path).status_code == 200


def test_cors(limited: Server) -> None:
    """A preflight carries no key; the gateway's own answers can be read across origins too."""
    origin = {"Origin": "https://a.example"}
    preflight = {**origin, "Access-Control-Request-Method": "POST"}
    with limited.http() as client:
        responses = [
            httpx.options(limited.base + CHAT_ROUTE, headers=preflight),
            httpx.post(limited.base + CHAT_ROUTE, json=CHAT, headers=origin),
            client.post(CHAT_ROUTE, json={**CHAT, "max_tokens": 1}, headers=origin),
            client.post(CHAT_ROUTE, content=b"{", headers=origin),
            client.get("/ready", headers=origin),
        ]
    assert [response.status_code for response in responses] == [200, 401, 200, 400, 200]
    for response in responses:
        assert response.headers["access-control-allow-origin"] == "https://a.example"


@pytest.mark.parametrize("mode", ["latent", "routed"])
@pytest.mark.parametrize("path", GENERATION)
def test_model_without_markers(limited: Server, path: str, mode: str) -> None:
    with limited.http() as client:
        request = {**CHAT, **GENERATION[path], "reasoning_mode": mode}
        response = client.post(path, json=request)
    code = "unsupported_reasoning_mode"
    error = assert_error(response, 400, code, repr(mode), "--reasoning-parser")
    assert error["param"] == "reasoning_mode"
    assert_serves(limited)


def test_model_without_markers_says_so(limited: Server) -> None:
    (card,) = limited.openai().models.list().data
    assert card.to_dict()["reasoning_modes"] == ["explicit"]
    answer = post(limited, {**CHAT, "include_reasoning_trace": True})
    assert answer["choices"][0]["routing"] == {"trace": []}
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


def padded(size: int) -> bytes:
    """A good request of this many bytes."""
    request = json.dumps({**CHAT, "max_tokens": 1})
    return request.ljust(size).encode()


def in_pieces(body: bytes) -> Iterator[bytes]:
    """Without an announced length."""
    for start in range(0, len(body), 4000):
        yield body[start : start + 4000]


@pytest.mark.parametrize("path", [CHAT_ROUTE, "/tokenize"])
@pytest.mark.parametrize("is_chunked", [False, True], ids=["announced", "chunked"])
@pytest.mark.parametrize("size", [MAX_BODY, MAX_BODY + 1, 50 * MAX_BODY])
def test_body_limit(limited: Server, path: str, is_chunked: bool, size: int) -> None:
    body = padded(size)
    headers = {**limited.headers, "Content-Type": "application/json"}
    content: Any = in_pieces(body) if is_chunked else body
    with limited.http(headers=headers) as client:
        response = client.post(path, content=content)
    if size <= MAX_BODY:
        assert response.status_code == 200
    else:
        assert_error(response, 413, "body_too_large", str(MAX_BODY), "--max-body-bytes")
    assert_serves(limited)


def raw(server: Server, length: int, body: bytes) -> bytes:
    """What comes back for a request that announces `length` bytes and sends these."""
    url = urlsplit(server.base)
    assert url.hostname
    assert url.port
    head = (
        f"POST {CHAT_ROUTE} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer alpha\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    with socket.create_connection((url.hostname, url.port), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(65536)


def test_length_that_lies(limited: Server) -> None:
    assert b"413" in raw(limited, 10_000_000, b"{}").split(b"\r\n")[0]
    assert b"400" in raw(limited, 10, padded(1000)).split(b"\r\n")[0]
    num_finished = limited.metric("vllm:request_success_total")
    assert b"200" not in raw(limited, 2000, padded(1000))  # the client is gone before the end
    assert wait_for(limited.is_idle, 30)
    assert limited.metric("vllm:request_success_total") == num_finished
    assert_serves(limited)


def test_full_queue(limited: Server) -> None:
    assert wait_for(limited.is_idle, 30)
    with limited.http() as client, ThreadPoolExecutor(3) as pool, limited.frozen_engine():
        accepted = [pool.submit(post, limited, CHAT) for _ in range(3)]
        assert wait_for(limited.is_full, 30)
        for path in GENERATION:
            response = client.post(path, json={**CHAT, **GENERATION[path]})
            assert_error(response, 429, "queue_full", "3", "--max-queue")
            assert int(response.headers["retry-after"]) >= 1
        assert client.get("/v1/models").status_code == 200
        assert client.get("/ready").status_code == 200
        assert client.post("/tokenize", json={"prompt": "a"}).status_code == 200
    assert [len(future.result()["choices"]) for future in accepted] == [1] * 3
    assert wait_for(lambda: not limited.is_full(), 30)
    assert_serves(limited)
