"""A chat request, from what the caller says to what the server reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from .wire import Routing

Prompt = str | Sequence[Mapping[str, Any]]  # a question, or messages as OpenAI has them
_OURS = {"mode": "reasoning_mode", "routing": "routing", "trace": "include_reasoning_trace"}


class ChatOptions(TypedDict, total=False):
    """What a chat request may say; what it leaves out, or gives as None, is the server's to choose.

    The last lines are vLLM's own parameters. Others go into `extra_body`, as with the
    `openai` package, and override what stands here.
    """

    model: str | None
    mode: str | None  # explicit, latent or routed
    routing: Routing | Mapping[str, Any] | None
    trace: bool | None  # every thinking step in the answer
    shortcuts: Mapping[str, Any] | None
    latent: Mapping[str, Any] | None  # of a latent-trained model: `steps`
    extra_body: Mapping[str, Any] | None
    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None
    response_format: Mapping[str, Any] | None
    stream_options: Mapping[str, Any] | None
    n: int | None
    max_tokens: int | None
    reasoning_effort: str | None  # none to max: the server's share of max_tokens for thinking
    thinking_token_budget: int | None  # tokens, whatever the effort
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    repetition_penalty: float | None
    seed: int | None
    stop: str | Sequence[str] | None


@dataclass(frozen=True)
class Call:
    """One HTTP request."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None


MODELS = Call("GET", "/v1/models")


def chat_call(prompt: Prompt, options: Mapping[str, Any], *, streams: bool) -> Call:
    """The request of a chat completion."""
    given = {key: value for key, value in options.items() if value is not None}
    extra_body = given.pop("extra_body", {})
    if isinstance(routing := given.get("routing"), Routing):
        given["routing"] = routing.as_body()
    body = {_OURS.get(key, key): value for key, value in given.items()}
    if streams:
        # The summary of usage and routing comes in a chunk of its own, after the last word.
        options_of_stream = {"include_usage": True, **given.get("stream_options", {})}
        body.update(stream=True, stream_options=options_of_stream)
    return Call(
        "POST", "/v1/chat/completions", {"messages": _messages(prompt), **body, **extra_body}
    )


def _messages(prompt: Prompt) -> list[Mapping[str, Any]]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
