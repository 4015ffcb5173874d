"""What vLLM offers keeps working for requests that think softly, and shows in what they mix."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from e2e.compare import Tally, prompt_of
from e2e.engine import Choice, Engine, Engines
from e2e.loop import Model, Request, follow, generate, log, softmax
from e2e.steps import routes_of

SCHEMA = {
    "type": "object",
    "properties": {"prime": {"type": "boolean"}, "digit": {"enum": [1, 2, 3]}},
    "required": ["prime", "digit"],
    "additionalProperties": False,
}


@pytest.fixture
def engine(engines: Engines, llama: Model) -> Engine:
    return engines.start(llama.path)


@pytest.fixture
def request_(llama: Model) -> Request:
    """Soft and discrete steps by turns."""
    return Request(llama.prompt("What is 2+2?"), "thinkrouter", 0.6, seed=20, max_tokens=48)


def run(engine: Engine, request: Request, **sampling: object) -> Choice:
    """The only choice of a request that runs alone."""
    return engine.run([prompt_of(request, **sampling)]).results[0].only


def test_each_of_several_choices_has_its_own_seed_and_ledger(
    engine: Engine, tally: Tally, llama: Model, request_: Request
) -> None:
    (result,) = engine.run([prompt_of(request_, n=3)]).results
    asked = [replace(request_, seed=request_.seed + i) for i in range(3)]
    for one, truth, choice in zip(asked, generate(llama, asked), result.choices, strict=True):
        tally.compare(llama, one, truth, choice.steps)
    assert len({choice.token_ids for choice in result.choices}) == 3


def test_a_stream_carries_each_step_once(engine: Engine, request_: Request) -> None:
    whole, streamed = prompt_of(request_), replace(prompt_of(request_), streams=True)
    batch = engine.run([whole, streamed])
    assert batch.results[0].only == batch.results[1].only
    assert len(batch.results[1].only.steps) == request_.max_tokens


def test_log_probabilities_are_those_of_the_recorded_tokens(
    engine: Engine, llama: Model, request_: Request
) -> None:
    """vLLM's default: of the model's own distribution, before temperature and filters."""
    choice = run(engine, request_, logprobs=2)
    _, z = follow(llama, request_, choice.steps)
    for token, row, logits in zip(choice.token_ids, choice.logprobs, z, strict=True):
        assert token in row
        expected = log(softmax(logits))
        assert row == pytest.approx({i: expected[i] for i in row}, abs=1e-4)
        assert len(row) - 2 in (0, 1)


def test_who_asks_for_no_log_probabilities_gets_none(engine: Engine, request_: Request) -> None:
    assert run(engine, request_).logprobs == []


def test_bias_and_bans_reach_the_mixture(engine: Engine, request_: Request) -> None:
    soft = replace(request_, policy="soft")
    best = run(engine, soft).token_ids[0]
    banned = run(engine, soft, logit_bias={best: -100.0})
    assert all(best not in step.weights for step in banned.steps)
    few = list(range(300, 310))
    allowed = run(engine, soft, allowed_token_ids=few)
    assert {i for step in allowed.steps for i in step.weights} <= set(few)
    assert any(len(step.weights) > 1 for step in allowed.steps)


def test_penalties_count_recorded_tokens(engine: Engine, request_: Request) -> None:
    """With a harsh penalty no recorded token comes twice before others run out."""
    soft = replace(request_, policy="soft", max_tokens=24)
    steps = run(engine, soft, presence_penalty=2.0, frequency_penalty=2.0).steps
    assert set(routes_of(steps)) == {"soft"}
    plain = {step.token for step in run(engine, soft).steps}
    assert len({step.token for step in steps}) > len(plain)


def test_a_stop_string_in_the_recorded_text_ends_the_request(
    engine: Engine, llama: Model, request_: Request
) -> None:
    whole = run(engine, request_)
    stop = llama.tokenizer.decode(whole.token_ids[10:12])
    choice = run(engine, request_, stop=[stop])
    assert choice.finish_reason == "stop"
    assert whole.text.startswith(choice.text)
    assert choice.steps == whole.steps[: len(choice.steps)]


def test_a_stop_token_is_never_mixed(engine: Engine, request_: Request) -> None:
    """Named as a stop token, the usual best candidate is recorded hard and ends the request."""
    soft = replace(request_, policy="soft")
    whole = run(engine, soft)
    second = list(whole.steps[0].weights)[1]
    choice = run(engine, soft, stop_token_ids=[second])
    assert all(second not in step.weights for step in choice.steps if step.route == "soft")
    first = run(engine, soft, stop_token_ids=[whole.token_ids[0]])
    assert (first.finish_reason, routes_of(first.steps)) == ("stop", ["discrete"])


def test_the_answer_is_held_to_a_schema_after_soft_thinking(
    engine: Engine, llama: Model, request_: Request
) -> None:
    soft = replace(request_, policy="soft", budget=16, max_tokens=64)
    choice = run(engine, soft, json=SCHEMA, ignore_eos=False)
    end = choice.token_ids.index(llama.end)
    assert set(routes_of(choice.steps)[:end]) == {"soft"}
    answer = llama.tokenizer.decode(choice.token_ids[end + 1 :], skip_special_tokens=True)
    assert json.loads(answer).keys() == {"prime", "digit"}
