"""Our own client, its programs and its examples against a real server."""

from __future__ import annotations

import asyncio
import io
import itertools
import runpy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from server.serving import CONTEXT, MODEL, Server, wait_for
from server.talk import (
    BUDGET,
    MAX_TOKENS,
    MODES,
    POLICY,
    SOFT,
    assert_consistent,
    assert_summary,
    outline,
)
from sottovoce_client import (
    AnswerText,
    AsyncClient,
    AuthenticationError,
    BadRequestError,
    Client,
    ContextLengthError,
    Done,
    Event,
    ModelNotFoundError,
    RateLimitedError,
    ReasoningText,
    Retries,
    Routing,
    ThinkingStep,
    UnsupportedModeError,
)
from sottovoce_client.chat import Conversation, Terminal, converse
from sottovoce_client.explain import main as explain
from sottovoce_client.settings import Settings

EXAMPLES = Path(__file__).parents[2] / "clients" / "examples"
# The model is random: a budget closes its thinking, a seed repeats its words.
SAMPLING: dict[str, Any] = {
    "max_tokens": MAX_TOKENS, "seed": 3, "temperature": 0.6, "thinking_token_budget": BUDGET,
}  # fmt: skip


def client_of(server: Server, **options: Any) -> Client:
    return Client(server.base, api_key=server.config.key or None, timeout=120.0, **options)


def texts(events: list[Event], kind: type[Any]) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


@pytest.mark.parametrize("mode", MODES)
def test_chat(server: Server, mode: str) -> None:
    with client_of(server) as client:
        done = client.chat("Hi", mode=mode, trace=True, **SAMPLING)
    assert done.text
    assert done.reasoning
    assert done.routing is not None
    assert_summary(done.routing.model_dump(), mode)
    trace = [step.model_dump() for step in done.trace]
    assert len(trace) == BUDGET
    assert_consistent(done.usage.details.model_dump(), trace, MAX_TOKENS)


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_is_the_whole_answer(server: Server, mode: str) -> None:
    with client_of(server) as client:
        done = client.chat("Hi", mode=mode, trace=True, **SAMPLING)
        with client.stream("Hi", mode=mode, trace=True, **SAMPLING) as stream:
            events = list(stream)
    assert texts(events, ReasoningText) == done.reasoning
    assert texts(events, AnswerText) == done.text
    steps = [event.step.model_dump() for event in events if isinstance(event, ThinkingStep)]
    assert outline(steps) == outline([step.model_dump() for step in done.trace])
    last = events[-1]
    assert isinstance(last, Done)
    assert last.routing == done.routing
    assert last.usage.details == done.usage.details
    assert last.finish_reasons == {0: "length"}


def test_async_client(server: Server) -> None:
    async def ask() -> tuple[list[Any], list[Event]]:
        async with AsyncClient(server.base, timeout=120.0) as client:
            chats = [client.chat("Hi", mode=mode, **SAMPLING) for mode in MODES]
            answers = await asyncio.gather(*chats)
            async with client.stream("Hi", mode="routed", **SAMPLING) as stream:
                return answers, [event async for event in stream]

    answers, events = asyncio.run(ask())
    assert [answer.routing.policy for answer in answers] == [POLICY[mode] for mode in MODES]
    assert isinstance(events[-1], Done)


def test_models(server: Server) -> None:
    with client_of(server) as client:
        (card,) = client.models()
    assert (card.id, card.reasoning_modes) == (MODEL, MODES)


def test_routing_parameters_arrive(server: Server) -> None:
    routing = Routing(threshold=1.0, top_n=3, cold_stop=None)
    with client_of(server) as client:
        done = client.chat("Hi", mode="routed", routing=routing, trace=True, **SAMPLING)
    assert done.routing is not None
    assert done.routing.threshold == 1.0
    # What cold_stop=None asks for shows in the tests of the router; here it must be accepted.
    assert {step.route for step in done.trace[:-1]} == {"discrete"}
    assert max(len(step.alternatives) for step in done.trace) <= 3


@pytest.mark.parametrize(
    ("options", "kind", "code"),
    [
        ({"mode": "loud"}, BadRequestError, "invalid_value"),
        ({"mode": "latent", "routing": {"x": 1}}, BadRequestError, "unknown_parameter"),
        ({"model": "other"}, ModelNotFoundError, "model_not_found"),
        ({"prompt": "Hi " * CONTEXT}, ContextLengthError, "context_length_exceeded"),
    ],
)
@pytest.mark.parametrize("streams", [False, True])
def test_errors(
    server: Server, options: dict[str, Any], kind: type[BadRequestError], code: str, streams: bool
) -> None:
    options = {"prompt": "Hi", **options}
    with client_of(server) as client, pytest.raises(kind) as caught:
        next(client.stream(**options)) if streams else client.chat(**options)
    assert caught.value.code == code
    assert caught.value.request_id


@pytest.mark.parametrize("mode", SOFT)
def test_leaving_a_stream_stops_the_engine(server: Server, mode: str) -> None:
    work = {"ignore_eos": True, "n": 64}  # eight at a time: seconds of work on any machine
    options: dict[str, Any] = {"max_tokens": 480, "extra_body": work}
    with client_of(server) as client:
        with client.stream("Hi", mode=mode, **options) as stream:
            next(stream)
            assert not server.is_idle()
        assert wait_for(server.is_idle, 20)


def test_chat_program(server: Server) -> None:
    out, lines = io.StringIO(), iter(["/set threshold 1.0", "Hi", "/mode explicit", "And?"])
    ticks = itertools.count()

    def read() -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    conversation = Conversation(Settings("routed", sampling=dict(SAMPLING)))
    with client_of(server) as client:
        terminal = Terminal(Console(file=out, width=80), read, lambda: float(next(ticks)))
        converse(client, conversation, terminal)
    assert out.getvalue().count(f"{BUDGET} reasoning steps, 0% soft") == 2
    assert [turn["role"] for turn in conversation.history] == ["user", "assistant"] * 2


def test_explain_program(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    fields = [f"--set={name}={value}" for name, value in SAMPLING.items()]
    explain(["Hi", "--url", server.base, "--mode", "latent", *fields], {})
    said = capsys.readouterr().out
    assert f"{BUDGET} steps: {BUDGET - 1} soft, 1 forced (mode latent, policy soft)" in said


@pytest.mark.parametrize("name", ["with_openai.py", "with_sottovoce.py", "with_langchain.py"])
def test_examples(server: Server, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main: Callable[[str, str], None] = runpy.run_path(str(EXAMPLES / name))["main"]
    main(server.base, "Hi")
    assert "soft" in capsys.readouterr().out


def test_a_model_without_markers(limited: Server) -> None:
    with client_of(limited) as client, pytest.raises(UnsupportedModeError) as caught:
        client.chat("Hi", mode="latent")
    assert "--reasoning-parser" in str(caught.value)


def test_a_wrong_key(limited: Server) -> None:
    with Client(limited.base, api_key="wrong") as client, pytest.raises(AuthenticationError):
        client.models()


def test_a_full_server_is_asked_again(limited: Server) -> None:
    """Its queue holds three; Retry-After says one second."""
    waits_s: list[float] = []
    retries = Retries(max_retries=2)
    with (
        client_of(limited) as early,
        client_of(limited, sleep=waits_s.append, retries=retries) as late,
        ThreadPoolExecutor(3) as pool,
        limited.frozen_engine(),
    ):
        accepted = [pool.submit(early.chat, "Hi", max_tokens=1) for _ in range(3)]
        assert wait_for(limited.is_full, 30)
        with pytest.raises(RateLimitedError) as caught:
            late.chat("Hi", max_tokens=1)
    assert (caught.value.code, len(waits_s)) == ("queue_full", 2)
    assert min(waits_s) >= 1
    assert [len(future.result().choices) for future in accepted] == [1] * 3
