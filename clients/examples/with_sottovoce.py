"""Our own client: one question in the three modes at once, then one answer as it is made.

python clients/examples/with_sottovoce.py http://localhost:8000 "What is 17 + 25?"
"""

from __future__ import annotations

import asyncio
import sys

from sottovoce_client import AnswerText, AsyncClient, Client, Done, ReasoningText, ThinkingStep


async def compare(url: str, question: str) -> None:
    """The modes that the server has, side by side."""
    async with AsyncClient(url) as client:
        modes = (await client.models())[0].reasoning_modes
        answers = await asyncio.gather(*(client.chat(question, mode=mode) for mode in modes))
    for mode, done in zip(modes, answers, strict=True):
        details = done.usage.details
        print(mode, details.reasoning_tokens, "steps,", details.soft_steps, "soft:", done.text)


def watch(url: str, question: str) -> None:
    """Every event of one answer."""
    with Client(url) as client, client.stream(question, mode="routed", trace=True) as events:
        for event in events:
            match event:
                case ThinkingStep(step):
                    print(step.route, repr(step.token), round(step.p_max, 3))
                case ReasoningText(text) | AnswerText(text):
                    print(text)
                case Done(usage=usage, routing=routing):
                    print(routing, usage.details)


def main(url: str, question: str) -> None:
    """Both."""
    asyncio.run(compare(url, question))
    watch(url, question)


if __name__ == "__main__":
    main(*sys.argv[1:3])
