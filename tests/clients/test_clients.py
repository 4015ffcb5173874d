"""Both clients: what they send, what they make of answers, and when they ask again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import httpx
import pytest

from clients.scripted import (
    CHUNKS,
    FACES,
    ROUTING,
    TRACE,
    WHOLE,
    Body,
    Script,
    refusal,
    sse,
    stream_of,
)
from sottovoce_client import (
    AnswerTimeoutError,
    AsyncClient,
    Client,
    Done,
    ProtocolError,
    RateLimitedError,
    Retries,
    Routing,
    StreamCutError,
    ThinkingStep,
    TraceStep,
    TransportError,
    UnavailableError,
)

both = pytest.mark.parametrize("face", FACES)


def good() -> httpx.Response:
    return httpx.Response(200, json=WHOLE)


@both
def test_chat(face: Any) -> None:
    script = Script([good()])
    options: dict[str, Any] = {"mode": "routed", "trace": True, "temperature": 0.6, "top_p": None}
    done = face(script, api_key="k", model="tiny").chat(
        "Hi",
        routing=Routing(threshold=0.8, cold_stop=None),
        extra_body={"top_n_sigma": 1},
        **options,
    )
    (request,) = script.requests
    assert str(request.url) == "http://host:1/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer k"
    assert script.bodies == [
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": "Hi"}],
            "reasoning_mode": "routed",
            "routing": {"threshold": 0.8, "cold_stop": None},
            "include_reasoning_trace": True,
            "temperature": 0.6,
            "top_n_sigma": 1,
        }
    ]
    assert (done.text, done.reasoning) == ("Näh, 42.", "Hm é")
    assert done.trace == tuple(TraceStep.model_validate(step) for step in TRACE)
    assert (done.routing.mode, done.routing.arm) == ("routed", None)
    assert done.usage.details.switches == 1


@both
def test_messages_and_mapping_go_as_they_are(face: Any) -> None:
    script = Script([good()])
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    face(script, "http://host:1/").chat(messages, routing={"policy": "new", "window": 8})
    assert script.bodies == [{"messages": messages, "routing": {"policy": "new", "window": 8}}]
    assert str(script.requests[0].url) == "http://host:1/v1/chat/completions"
    assert "authorization" not in script.requests[0].headers


@both
def test_stream(face: Any) -> None:
    script = Script([stream_of(sse(CHUNKS))])
    events = face(script).events(mode="latent", stream_options={"continuous_usage_stats": True})
    assert isinstance(events[-1], Done)
    assert events[-1].routing.mode == ROUTING["mode"]
    (body,) = script.bodies
    assert (body["stream"], body["reasoning_mode"]) == (True, "latent")
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}


@both
def test_models(face: Any) -> None:
    card = {"id": "tiny", "reasoning_modes": ["explicit"], "routing_defaults": {}, "owned_by": "v"}
    script = Script([httpx.Response(200, json={"object": "list", "data": [card]})])
    (model,) = face(script).models()
    assert (model.id, model.reasoning_modes) == ("tiny", ("explicit",))
    assert (script.requests[0].method, script.requests[0].url.path) == ("GET", "/v1/models")


@both
@pytest.mark.parametrize("status", [429, 503])
def test_retried_until_it_works(face: Any, status: int) -> None:
    refused = refusal(status, Retry_After="3"), refusal(status)
    script = Script([*refused, good()])
    assert face(script).chat().text == "Näh, 42."
    first, second = script.waits_s
    assert 3.25 <= first <= 3.5  # what was asked for, and jitter
    assert 0.5 <= second <= 1
    assert script.bodies[0] == script.bodies[1] == script.bodies[2]
    assert all(answer.is_closed for answer in refused)


@both
def test_retry_after_as_a_date(face: Any) -> None:
    script = Script([refusal(503, Retry_After="Tue, 14 Nov 2023 22:13:50 GMT"), good()])
    face(script).chat()
    assert 30 <= script.waits_s[0] <= 30.5


@both
def test_gives_up(face: Any) -> None:
    script = Script([refusal(429, "queue_full", Retry_After="1", X_Request_Id="r-1")])
    with pytest.raises(RateLimitedError, match="no: 429") as caught:
        face(script, retries=Retries(max_retries=2)).chat()
    assert (len(script.requests), len(script.waits_s)) == (3, 2)
    error = caught.value
    assert (error.status, error.code, error.param) == (429, "queue_full", "key")
    assert (error.retry_after_s, error.request_id) == (1, "r-1")


@both
def test_does_not_wait_an_hour(face: Any) -> None:
    script = Script([refusal(503, "draining", Retry_After="3600")])
    with pytest.raises(UnavailableError) as caught:
        face(script).chat()
    assert (script.waits_s, caught.value.retry_after_s) == ([], 3600)


@both
def test_a_refused_stream_is_retried(face: Any) -> None:
    script = Script([refusal(429), stream_of(sse(CHUNKS))])
    assert isinstance(face(script).events()[-1], Done)
    assert len(script.waits_s) == 1


@both
def test_nothing_is_retried_after_the_first_byte(face: Any) -> None:
    cut = stream_of(sse(CHUNKS[:2], ""), httpx.ReadError("connection reset"))
    script = Script([cut, stream_of(sse(CHUNKS))])
    with pytest.raises(TransportError, match="connection reset"):
        face(script).events()
    error = {"error": {"message": "draining", "code": "draining"}}
    script.answers[0] = stream_of(sse([CHUNKS[1], error]))
    script.requests.clear()
    with pytest.raises(UnavailableError):
        face(script).events()
    script.answers[0] = stream_of(sse(CHUNKS, ""))
    script.requests.clear()
    with pytest.raises(StreamCutError):
        face(script).events()
    assert (len(script.requests), script.waits_s) == (1, [])


def parts_of_a_stream() -> tuple[Body, httpx.MockTransport]:
    body = Body(*(sse([chunk], "") for chunk in CHUNKS))
    return body, httpx.MockTransport(Script([httpx.Response(200, stream=body)]))


def test_leaving_a_stream_closes_its_connection() -> None:
    body, transport = parts_of_a_stream()
    with Client(transport=transport) as client:
        with client.stream("Hi") as stream:
            assert isinstance(next(stream), ThinkingStep)
            assert not body.is_closed
        assert body.is_closed
    assert body.num_sent == 2  # of 6


def test_leaving_an_async_stream_closes_its_connection() -> None:
    body, transport = parts_of_a_stream()

    async def leave() -> None:
        async with AsyncClient(transport=transport) as client:
            async with client.stream("Hi") as stream:
                assert isinstance(await anext(stream), ThinkingStep)
                assert not body.is_closed
            assert body.is_closed

    asyncio.run(leave())
    assert body.num_sent == 2  # of 6


@both
def test_a_stream_that_nobody_reads_is_not_sent(face: Any) -> None:
    script = Script([stream_of(sse(CHUNKS))])
    face(script).client.stream("Hi")
    assert script.requests == []


def test_a_dropped_stream_closes_its_connection() -> None:
    body, transport = parts_of_a_stream()
    with Client(transport=transport) as client:
        for _ in client.stream("Hi"):
            break
        assert body.is_closed


def test_cancelling_the_reader_closes_the_connection() -> None:
    class Endless(Body):
        async def __aiter__(self) -> Any:
            yield sse(CHUNKS[:2], "")
            await asyncio.sleep(3600)

    body = Endless()
    script = Script([httpx.Response(200, stream=body)])

    async def read(client: AsyncClient, began: asyncio.Event) -> None:
        async for _ in client.stream("Hi"):
            began.set()

    async def cancel() -> None:
        began = asyncio.Event()
        async with AsyncClient(transport=httpx.MockTransport(script)) as client:
            task = asyncio.create_task(read(client, began))
            await began.wait()
            assert not body.is_closed
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert body.is_closed

    asyncio.run(cancel())


@both
@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (httpx.ConnectError("refused"), TransportError),
        (httpx.ReadTimeout("too slow"), AnswerTimeoutError),
        (httpx.RemoteProtocolError("gone"), TransportError),
    ],
)
def test_no_answer(face: Any, failure: Exception, kind: type[TransportError]) -> None:
    script = Script([failure])
    with pytest.raises(TransportError, match=f"POST http://host:1/.*{failure}") as caught:
        face(script).chat()
    assert type(caught.value) is kind
    assert len(script.requests) == 1


@both
@pytest.mark.parametrize("body", [b"null", b"<html>", b'{"choices": []}', b'{"choices": [{}]}'])
def test_no_completion(face: Any, body: bytes) -> None:
    with pytest.raises(ProtocolError, match="Completion"):
        face(Script([httpx.Response(200, content=body)])).chat()


@both
def test_timeouts(face: Any) -> None:
    script = Script([good()])
    face(script).chat()
    face(script, timeout=3.0).chat()
    slow, fast = (request.extensions["timeout"] for request in script.requests)
    assert (slow["connect"], slow["read"]) == (5, 600)
    assert set(fast.values()) == {3}


def test_importing_it_is_light() -> None:
    heavy = [
        "torch",
        "vllm",
        "sottovoce_server",
        "sottovoce_router",
        "numpy",
    ]  # httpx itself imports rich
    code = f"import sys, sottovoce_client; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
