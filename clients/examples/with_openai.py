"""The official `openai` package: our fields go into `extra_body`, and come back as attributes.

python clients/examples/with_openai.py http://localhost:8000 "What is 17 + 25?"
"""

from __future__ import annotations

import sys
from typing import Any

from openai import OpenAI

OURS = {
    "reasoning_mode": "routed",
    "routing": {"threshold": 0.7},
    "include_reasoning_trace": True,
}


def whole(client: OpenAI, model: str, question: str) -> None:
    """An answer in one piece, then its thinking step by step."""
    done: Any = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], extra_body=OURS
    )
    (choice,) = done.choices
    print(choice.message.content, done.routing, done.usage.completion_tokens_details)
    for step in choice.routing["trace"]:
        print(step["route"], repr(step["token"]), step["p_max"])


def streamed(client: OpenAI, model: str, question: str) -> None:
    """The same as it is made: thoughts, then the answer, then the summary."""
    chunks: Any = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        extra_body=OURS,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in chunks:
        for choice in chunk.choices:
            text = getattr(choice.delta, "reasoning", None) or choice.delta.content or ""
            print(text, end="", flush=True)
    print()
    print(chunk.routing, chunk.usage.completion_tokens_details)


def main(url: str, question: str) -> None:
    """Ask twice."""
    client = OpenAI(base_url=f"{url}/v1", api_key="none")
    model = client.models.list().data[0].id
    whole(client, model, question)
    streamed(client, model, question)


if __name__ == "__main__":
    main(*sys.argv[1:3])
