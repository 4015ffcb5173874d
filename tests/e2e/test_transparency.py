"""With the plugin loaded, explicit requests get what stock vLLM gives them, token for token.

Stock is Model Runner V2 without our plugin; on a CPU it runs its own Triton kernels interpreted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from e2e.compare import prompt_of
from e2e.engine import INTERPRETED, STOCK, Choice, Engines, Prompt, Result
from e2e.loop import Model, Request
from e2e.models import tiny_llama

Answers = dict[str, tuple[Result, ...]]
SAMPLED = {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.02, "max_tokens": 16}
GREEDY = {"temperature": 0.0, "max_tokens": 16}
SCHEMA = {
    "type": "object",
    "properties": {"prime": {"type": "boolean"}, "digit": {"enum": [1, 2, 3]}},
    "required": ["prime", "digit"],
    "additionalProperties": False,
}
CASES: dict[str, dict[str, Any]] = {
    "greedy": GREEDY,
    "sampled": SAMPLED | {"seed": 1},
    "sampled hot": {"temperature": 1.5, "seed": -(2**40), "max_tokens": 16},
    "penalties": SAMPLED
    | {"seed": 2, "repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.7},
    "logprobs": GREEDY | {"logprobs": 5},
    "sampled logprobs": SAMPLED | {"seed": 3, "logprobs": 2},
    "json": GREEDY | {"json": SCHEMA, "max_tokens": 40},
    "stop string": SAMPLED | {"seed": 4, "stop": ["e"], "max_tokens": 40},
    "stop token": SAMPLED | {"seed": 5, "stop_token_ids": [66, 152, 327], "max_tokens": 40},
    "three choices": SAMPLED | {"seed": 6, "n": 3},
    "bias": GREEDY | {"logit_bias": {100: 8.0, 359: -100.0}, "min_tokens": 8},
    "allowed": SAMPLED | {"seed": 7, "allowed_token_ids": list(range(50, 90))},
    "bad words": GREEDY | {"bad_words": ["bu"]},
    "budget": SAMPLED | {"seed": 8, "thinking_token_budget": 12, "ignore_eos": True},
}


def prompts(model: Model) -> list[Prompt]:
    """One request a case; only a closed thinking phase is held to a schema."""
    prompt = model.prompt("What is 2+2?")
    closed = prompt + model.encode("</think>\n")
    return [Prompt(closed if "json" in case else prompt, case) for case in CASES.values()]


def soft_company(model: Model) -> list[Prompt]:
    """Requests that think softly beside the explicit ones."""
    prompt = model.prompt("Hi")
    asked = [
        Request(prompt, policy, 0.5, seed=9, max_tokens=48) for policy in ("soft", "thinkrouter")
    ]
    return [prompt_of(request) for request in asked]


def start_ahead(folder: Path) -> Callable[[], Answers]:
    """What the two interpreted set-ups answer."""
    model = Model(tiny_llama(folder))
    asked = prompts(model)

    def run() -> Answers:
        with closing(Engines(folder)) as engines:
            return {
                name: engines.start(model.path, host).run(asked).results
                for name, host in (("stock", STOCK), ("ours interpreted", INTERPRETED))
            }

    return run


@pytest.fixture(scope="module")
def answers(engines: Engines, llama: Model, made_ahead: Answers) -> Answers:
    """What each set-up answers."""
    asked, company = prompts(llama), soft_company(llama)
    ours = engines.start(llama.path)
    found = {"ours": ours.run(asked).results, "ours in company": ours.run(asked + company).results}
    return found | made_ahead


def hold_same(stock: Choice, ours: Choice) -> None:
    """Compare two choices, log-probabilities to 1e-4."""
    assert ours.token_ids == stock.token_ids
    assert (ours.text, ours.finish_reason) == (stock.text, stock.finish_reason)
    assert not ours.steps
    assert len(ours.logprobs) == len(stock.logprobs)
    for mine, theirs in zip(ours.logprobs, stock.logprobs, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("setup", ["ours", "ours in company", "ours interpreted"])
def test_explicit_requests_get_what_stock_vllm_gives(
    answers: Answers, setup: str, case: str
) -> None:
    index = list(CASES).index(case)
    stock, ours = answers["stock"][index], answers[setup][index]
    for theirs, mine in zip(stock.choices, ours.choices, strict=True):
        hold_same(theirs, mine)


def test_the_cases_bite(answers: Answers, llama: Model) -> None:
    """Each option shows in stock vLLM's own answer."""
    stock = dict(zip(CASES, answers["stock"], strict=True))
    assert len({choice.token_ids for choice in stock["three choices"].choices}) == 3
    assert stock["stop string"].only.finish_reason == "stop"
    assert stock["stop token"].only.finish_reason == "stop"
    assert json.loads(stock["json"].only.text).keys() == {"prime", "digit"}
    assert all(len(row) >= 5 for row in stock["logprobs"].only.logprobs)
    assert llama.end in stock["budget"].only.token_ids
    assert set(stock["allowed"].only.token_ids) <= set(range(50, 90))
    for case in ("bias", "bad words"):
        assert stock[case].only.token_ids != stock["greedy"].only.token_ids
