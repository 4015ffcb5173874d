"""The demo's table and shell line, on made-up answers."""

from __future__ import annotations

import json
import shlex
import socket

import httpx

from sottovoce_server.demo import Answer, ask, curl_line, free_port, request_body, table

ANSWERS = [
    Answer("explicit", "42", 48, 0, 0.5, 1.25),
    Answer("latent", "It is " + "very " * 20 + "long.", 7, 6, 0.987, 12.0),
]


def test_table_is_aligned() -> None:
    header, explicit, latent = table(ANSWERS).split("\n")
    assert header.split() == ["mode", "reasoning", "soft", "mean", "p_max", "seconds", "answer"]
    assert explicit.split() == ["explicit", "48", "0", "0.50", "1.2", "42"]
    assert latent.split()[:5] == ["latent", "7", "6", "0.99", "12.0"]
    column = header.index("answer")
    assert explicit[column:] == "42"
    assert latent[column:].startswith("It is very")
    assert latent.endswith("...")
    assert len(latent) == column + 60


def test_table_without_answers() -> None:
    assert table([]).startswith("mode")


def test_curl_line_is_one_shell_command() -> None:
    body = request_body("m", "routed", "What's 'it' & why?")
    words = shlex.split(curl_line("http://localhost:8000", body))
    assert words[:2] == ["curl", "http://localhost:8000/v1/chat/completions"]
    sent = json.loads(words[words.index("-d") + 1])
    assert sent["messages"] == [{"role": "user", "content": "What's 'it' & why?"}]
    assert sent["reasoning_mode"] == "routed"


def answering(request: httpx.Request) -> httpx.Response:
    asked = json.loads(request.content)
    assert asked["include_reasoning_trace"] is True
    trace = [{"p_max": 0.5}, {"p_max": 1.0}]
    message = {"content": " Paris \\n is it. ".replace("\\n", "\n")}
    return httpx.Response(
        200,
        json={
            "choices": [{"message": message, "routing": {"trace": trace}}],
            "usage": {"completion_tokens_details": {"reasoning_tokens": 2, "soft_steps": 1}},
            "routing": {"mode": asked["reasoning_mode"]},
        },
    )


def test_ask() -> None:
    with httpx.Client(base_url="http://a", transport=httpx.MockTransport(answering)) as client:
        answer = ask(client, request_body("m", "latent", "Where?"))
    assert (answer.mode, answer.text) == ("latent", "Paris is it.")
    assert (answer.reasoning_tokens, answer.soft_steps, answer.mean_p_max) == (2, 1, 0.75)


def test_ask_where_nothing_was_said() -> None:
    def thinking(request: httpx.Request) -> httpx.Response:
        answer = answering(request).json()
        answer["choices"][0]["message"] = {"content": None, "reasoning": "hm"}
        return httpx.Response(200, json=answer)

    with httpx.Client(base_url="http://a", transport=httpx.MockTransport(thinking)) as client:
        assert ask(client, request_body("m", "latent", "Where?")).text == "(only thought) hm"


def test_free_port() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
