"""Keys, limits and drain, and a request's way through the gateway."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from server.front import CHAT, JSON, REQUEST, App, Front, Response, watched
from server.stubs import END
from sottovoce_router import parse
from sottovoce_router.observe import observer
from sottovoce_server.gateway import Gateway


def test_a_models_routing_defaults_reach_the_engine_and_the_list(tmp_path: Path) -> None:
    path = tmp_path / "defaults.json"
    path.write_text('{"routing": {"threshold": 0.45}}')
    models = b'{"object": "list", "data": [{"id": "a"}]}'
    app = App(parts=(models,))
    front = Front(app, routing_defaults=str(path))
    listed = json.loads(front.ask("/v1/models", method="GET").body)["data"][0]
    assert listed["routing_defaults"] == {"threshold": 0.45}
    app.parts = (b'{"choices": [], "usage": {}}',)
    for routing, threshold in (({}, 0.45), ({"threshold": 0.9}, 0.9)):
        front.post({**REQUEST, "reasoning_mode": "routed", "routing": routing})
        assert parse(json.loads(app.asked[-1][2])["vllm_xargs"]).threshold == threshold


def test_request_is_translated_and_answer_rendered() -> None:
    usage = {"completion_tokens": 2}
    body = json.dumps({"choices": [{"index": 0, "message": {}}], "usage": usage}).encode()
    app = App(headers={**JSON, "content-length": str(len(body))}, parts=(body,))
    app.generates = watched(11, END)
    response = Front(app).post({**REQUEST, "reasoning_mode": "latent"}, headers={"x-a": "b"})
    path, headers, sent = app.asked[0]
    assert (path, headers[b"x-a"], int(headers[b"content-length"])) == (CHAT, b"b", len(sent))
    xargs = json.loads(sent)["vllm_xargs"]
    assert xargs.keys() == {"reasoning_mode", "routing"}
    assert parse(xargs) == parse({"reasoning_mode": "latent"})
    assert response.headers["x-reasoning-mode"] == "latent"
    assert int(response.headers["content-length"]) == len(response.body)
    answer = json.loads(response.body)
    assert answer["routing"]["policy"] == "soft"
    assert answer["usage"]["completion_tokens_details"]["soft_steps"] == 1
    assert observer.get() is None


def test_models() -> None:
    app = App(parts=(b'{"data": [{"id": "m"}]}',))
    body = Front(app).ask("/v1/models", method="GET").body
    assert json.loads(body)["data"][0]["reasoning_modes"] == ["explicit", "latent", "routed"]


def test_websocket_passes() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(Gateway(app)({"type": "websocket"}, None, None))  # type: ignore[arg-type]
    assert seen == ["websocket"]


def test_key_reaches_vllms_own_check() -> None:
    """Which knows one header and one spelling of it."""
    app = App()
    front = Front(app, keys=["a", "b"])
    for headers in ({"x-api-key": "b"}, {"authorization": "bEaReR  b"}):
        assert front.post(REQUEST, headers=headers).status == 200
        assert app.asked[-1][1][b"authorization"] == b"Bearer b"


@pytest.mark.parametrize("header", ["", "a b", "Bearer", "Basic a", "Bearer ab", "Bearer  "])
def test_wrong_key(header: str) -> None:
    app = App()
    front = Front(app, keys=["a"])
    for path, method in ((CHAT, "POST"), ("/docs", "GET"), ("/v1/files", "DELETE")):
        response = front.ask(path, b"{}", method=method, headers={"authorization": header})
        assert (response.status, response.code) == (401, "invalid_api_key")
    assert app.asked == []
    for path in ("/health", "/ready", "/metrics", "/ping"):
        assert front.ask(path, method="GET").status == 200
    assert front.ask(CHAT, method="OPTIONS").status == 200


def test_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "e")
    assert Front(App()).post(REQUEST).status == 401
    assert Front(App(), keys=["a"]).post(REQUEST, headers={"x-api-key": "e"}).status == 401


@pytest.mark.parametrize("path", [CHAT, "/tokenize"])
def test_body_limit(path: str) -> None:
    app = App()
    front = Front(app, max_body_bytes=20)
    assert front.ask(path, b"{}".ljust(10), b" " * 10).status == 200
    assert front.ask(path, b"{}".ljust(10), b" " * 11, b"x" * 99).code == "body_too_large"
    announced = front.ask(path, b"{}", headers={"content-length": "21"})
    assert (announced.status, announced.code) == (413, "body_too_large")
    assert front.ask(path, b"{}", headers={"content-length": "many"}).status == 200
    assert len(app.asked) == 2


def test_client_that_hangs_up_in_its_body() -> None:
    """Even if what came is a request already."""
    app = App()
    response = Front(app).ask(CHAT, json.dumps(REQUEST).encode(), hangs_up=True)
    assert response.messages == []
    assert app.asked == []


def test_refused_while_draining() -> None:
    app = App()
    front = Front(app)
    assert front.ask("/ready", method="GET").status == 200
    front.engine.shutdown(timeout=0)
    for path, method in ((CHAT, "POST"), ("/tokenize", "POST"), ("/ready", "GET")):
        response = front.ask(path, b"{}", method=method)
        assert (response.status, response.code) == (503, "draining")
        assert response.headers["retry-after"]
    assert [path for path, *_ in app.asked] == []
    assert front.ask("/version", method="GET").status == 200


def test_not_ready_when_the_engine_is_dead() -> None:
    front = Front(App())
    front.engine.errored = True
    assert front.ask("/ready", method="GET").status == 503


def test_queue_place_is_given_back() -> None:
    def fail() -> None:
        raise KeyError

    app = App(generates=fail)
    front = Front(app, max_queue=1)
    with pytest.raises(KeyError):
        front.post(REQUEST)
    app.generates = lambda: None
    assert [front.post(REQUEST).status for _ in range(3)] == [200] * 3


def test_full_queue() -> None:
    app = App()
    front = Front(app, max_queue=1)
    inner: list[Response] = []

    def ask_meanwhile() -> None:
        app.generates = lambda: None
        with ThreadPoolExecutor(1) as pool:  # an event loop of its own
            inner.append(pool.submit(front.post, REQUEST).result())
            inner.append(pool.submit(front.ask, "/tokenize", b"{}").result())

    app.generates = ask_meanwhile
    assert front.post(REQUEST).status == 200
    assert (inner[0].status, inner[0].code) == (429, "queue_full")
    assert inner[0].headers["retry-after"]
    assert inner[1].status == 200


def test_own_answers_look_like_vllms() -> None:
    """With the request's id, and readable from other origins."""
    headers = {"x-request-id": "mine", "origin": "https://a.example"}
    response = Front(App()).ask(CHAT, b"{", headers=headers)
    assert response.headers["x-request-id"] == "mine"
    assert response.headers["access-control-allow-origin"] == "*"
    assert Front(App()).ask(CHAT, b"{").headers["x-request-id"]


@pytest.mark.parametrize(("mode", "is_refused"), [("explicit", False), ("latent", True)])
def test_a_default_mode_that_cannot_be_served(mode: str, is_refused: bool) -> None:
    """Is refused at the start, not at every request."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    front = Front(app, default_reasoning_mode=mode)
    front.engine.vllm_config.reasoning_config = None
    sent = front.start()
    assert seen == ([] if is_refused else ["lifespan"])
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"] * is_refused
    assert all("--default-reasoning-mode: 'latent' needs a model" in m["message"] for m in sent)
