"""LangChain's `ChatOpenAI`: our fields go into `extra_body`, counts come back in the metadata.

It drops what it does not know: thoughts and trace are not in its messages. Needs langchain-openai.

python clients/examples/with_langchain.py http://localhost:8000 "What is 17 + 25?"
"""

from __future__ import annotations

import sys

from langchain_openai import ChatOpenAI
from openai import OpenAI


def main(url: str, question: str) -> None:
    """Ask twice: whole, and streamed."""
    model = OpenAI(base_url=f"{url}/v1", api_key="none").models.list().data[0].id
    chat = ChatOpenAI(
        base_url=f"{url}/v1",
        api_key="none",
        model=model,
        stream_usage=True,
        extra_body={"reasoning_mode": "routed", "routing": {"threshold": 0.7}},
    )
    done = chat.invoke(question)
    print(done.content, done.response_metadata["token_usage"]["completion_tokens_details"])
    for chunk in chat.stream(question):
        print(chunk.text, end="", flush=True)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:3])
