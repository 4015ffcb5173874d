"""Counting what the engine's outputs say about a request."""

from __future__ import annotations

from typing import Any

import pytest

from server.stubs import END, LEDGER_BYTES, MARKERS, START, completion, output, step
from sottovoce_router import CAUSE_NAMES
from sottovoce_server.tally import Tally


def tally(num_prompts: int = 1, num_per_prompt: int = 1, **fields: Any) -> Tally:
    known = {
        "markers": MARKERS,
        "decode": lambda ids: "".join(f"<{i}>" for i in ids),
        "num_layers": 3,
    }
    return Tally(**{**known, **fields}, num_prompts=num_prompts, num_per_prompt=num_per_prompt)


def shown(counts: Tally, index: int) -> list[int]:
    return [entry["token_id"] for entry in counts.take_trace(index)]


def test_usage_by_route() -> None:
    counts = tally()
    routes = ["soft", "discrete", "soft", "forced", None, None]
    counts.watch(output("chatcmpl-a", completion(0, [11, 12, 13, END, 14, 15], routes)))
    assert counts.usage() == {
        "reasoning_tokens": 4, "soft_steps": 2, "discrete_steps": 1, "forced_steps": 1,
        "latent_steps": 0, "switches": 2, "layers_run": 15, "layers_skipped": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "tokens", "expected"),
    [
        ((9, START), [11, 12, END, 13], 3),
        ((9, START), [11, 12], 2),
        ((9,), [11, START, 12, END, 13], 2),
        ((9,), [11, 12], 0),
        ((START, 9, END), [11, 12], 0),
        ((9, START), [END], 1),
        ((9, START), [], 0),
    ],
)
def test_reasoning_without_a_record(
    prompt: tuple[int, ...], tokens: list[int], expected: int
) -> None:
    counts = tally()
    counts.watch(output("chatcmpl-a", completion(0, tokens), prompt=prompt))
    assert counts.usage()["reasoning_tokens"] == expected


def test_no_markers_no_reasoning() -> None:
    counts = tally(markers=None)
    counts.watch(output("chatcmpl-a", completion(0, [11, 12])))
    assert counts.usage()["reasoning_tokens"] == 0


def test_lengths_of_what_has_finished() -> None:
    """An aborted choice has none, and a running one not yet."""
    counts = tally(num_per_prompt=5)
    for index, reason in enumerate(("stop", "length", None, "abort", "error")):
        routes = ["soft", "forced", None]
        counts.watch(output("chatcmpl-a", completion(index, [11, END, 12], routes, reason)))
    assert counts.finished_lengths() == [2, 2]
    counts.watch(output("chatcmpl-a", completion(2, [13], [None], "stop")))
    assert counts.finished_lengths() == [2, 2, 2]


def test_confidences_of_choices_not_of_forced_steps() -> None:
    counts = tally()
    done = completion(0, [11, 12, END, 13])
    done.routing = [
        step(11, p_max=0.25), step(12, "discrete", p_max=1.0000001), step(END, "forced", p_max=1.0),
        step(13, None, p_max=0.9),
    ]  # fmt: skip
    counts.watch(output("chatcmpl-a", done))
    assert counts.confidences().tolist() == [0.25, 1.0]
    assert tally().confidences().tolist() == []


@pytest.mark.parametrize("reason", CAUSE_NAMES.values())
def test_what_forced_an_end(reason: str) -> None:
    """A marker of two tokens is one end, though a budget forces each of them anew."""
    counts = tally()
    done = completion(0, [11, 12, 13, 4, 5, 14])
    routes = ("soft", "discrete", "soft", "forced", "forced", None)
    causes = (None, None, None, reason, "budget", None)
    done.routing = [
        step(token, route, cause=cause)
        for token, route, cause in zip(done.token_ids, routes, causes, strict=True)
    ]
    counts.watch(output("chatcmpl-a", done))
    counts.watch(output("chatcmpl-a", completion(1, [11, END], ["soft", "discrete"])))
    assert counts.forced_closes() == {reason: 1}


def test_replays_are_counted_in_every_phase() -> None:
    counts = tally()
    done = completion(0, [11, END, 12, 13])
    done.routing = [
        step(11, takes_slot=True), step(END, "forced", takes_slot=True),
        step(12, None, takes_slot=True), step(13, None),
    ]  # fmt: skip
    counts.watch(output("chatcmpl-a", done))
    counts.watch(output("chatcmpl-a", completion(1, [11])))
    assert counts.num_replays() == 2


def test_a_choice_holds_the_ledger_while_it_lives() -> None:
    """From its first token to its end, or the request's; one for which there was no room, never."""
    told: list[int] = []
    counts = tally(num_per_prompt=4, hold=told.append)

    def begins(index: int, finish_reason: str | None = None) -> Any:
        done = completion(index, [11], [None], finish_reason)
        done.routing[0] = done.routing[0]._replace(takes_slot=True)
        return output("chatcmpl-a", done)

    counts.watch(output("chatcmpl-a", completion(3, [11], [None])))
    assert told == []
    for started in (begins(0), begins(1), begins(2, "stop")):
        counts.watch(started)
    assert told == [LEDGER_BYTES, LEDGER_BYTES, LEDGER_BYTES, -LEDGER_BYTES]
    counts.watch(output("chatcmpl-a", completion(0, [END], ["forced"], "length")))
    assert told[4:] == [-LEDGER_BYTES]
    counts.let_go()
    counts.let_go()
    assert told[5:] == [-LEDGER_BYTES], "the choice that hung up"


def test_nothing_seen_nothing_claimed() -> None:
    assert tally().usage() == {}


def test_thinking_without_routes() -> None:
    """Outputs of a request for which the engine had no row in its ledger."""
    for routes in (None, [None, None, None]):
        counts = tally()
        counts.watch(output("chatcmpl-a", completion(0, [11, END, 12], routes)))
        assert counts.lacks_routes
        assert counts.usage()["reasoning_tokens"] == 2
    counts = tally()
    counts.watch(output("chatcmpl-a", completion(0, [11, END], ["discrete", "forced"])))
    assert not counts.lacks_routes
    answer_only = tally()
    answer_only.watch(output("chatcmpl-a", completion(0, [11], [None]), prompt=(START, END)))
    assert not answer_only.lacks_routes


def test_streamed_outputs_add_up() -> None:
    counts = tally(num_per_prompt=2)
    counts.watch(output("chatcmpl-a", completion(0, [11], ["soft"])))
    assert (shown(counts, 0), shown(counts, 0), shown(counts, 1)) == ([11], [], [])
    counts.watch(output("chatcmpl-a", completion(1, [21, 22], ["soft", "discrete"])))
    counts.watch(output("chatcmpl-a", completion(0, [12, END], ["discrete", "forced"])))
    assert (shown(counts, 0), shown(counts, 1)) == ([12, END], [21, 22])
    assert counts.usage()["reasoning_tokens"] == 5


def latent_choice(counts: Tally, routes: list[str | None]) -> None:
    """Two latent steps, the end marker and a token of the answer, over two outputs."""
    tokens, skipped = [7, 7, END, 12], [0, 2, 1, 3]
    for part in (slice(0, 1), slice(1, None)):
        found = completion(0, tokens[part], finish_reason="stop")
        found.routing = [
            step(token, route, num_skipped=number)
            for token, route, number in zip(tokens[part], routes[part], skipped[part], strict=True)
        ]
        counts.watch(output("chatcmpl-a", found))


@pytest.mark.parametrize("marker", [None, "forced"])
def test_latent_steps_are_no_reasoning_tokens(marker: str | None) -> None:
    """Traced or not, and streamed; what read the last token nothing did."""
    counts = tally()
    latent_choice(counts, ["latent", "latent", marker, None])
    found = counts.usage()
    assert (found["latent_steps"], found["reasoning_tokens"]) == (2, 1)
    assert (found["layers_run"], found["layers_skipped"]) == (3 * 3 - 6, 6)
    assert (found["switches"], counts.finished_lengths()) == (0, [1])
    assert counts.forced_closes() == {}
    assert shown(counts, 0) == [7, 7, END][: 3 if marker else 2]


def test_only_thinking_is_traced() -> None:
    counts = tally()
    counts.watch(output("chatcmpl-a", completion(0, [11, END, 12], ["soft", "forced", None])))
    assert shown(counts, 0) == [11, END]


@pytest.mark.parametrize("separator", ["-", "_"])
def test_each_prompt_has_its_choices(separator: str) -> None:
    """In whatever order their outputs come."""
    counts = tally(num_prompts=3, num_per_prompt=2)
    for number in (2, 0, 1):
        request_id = f"cmpl-a-7{separator}{number}"
        for index in (1, 0):
            token = 100 * number + index
            counts.watch(output(request_id, completion(index, [token], ["soft"])))
    assert [shown(counts, i) for i in range(6)] == [[0], [1], [100], [101], [200], [201]]


@pytest.mark.parametrize("request_id", ["chatcmpl-job-7", "cmpl-job-7-0", "resp_a_1", "resp_a_0"])
def test_single_prompt_whatever_its_id(request_id: str) -> None:
    counts = tally()
    counts.watch(output(request_id, completion(0, [11], ["soft"])))
    assert shown(counts, 0) == [11]


@pytest.mark.parametrize("text", [None, (), (12, 13)])
def test_a_latent_that_was_read_has_its_text(text: tuple[int, ...] | None) -> None:
    counts = tally()
    done = completion(0, [7])
    done.routing = [step(7, "latent", text=text)]
    counts.watch(output("chatcmpl-a", done))
    (entry,) = counts.take_trace(0)
    found = {} if text is None else {"step": "".join(f"<{i}>" for i in text)}
    assert {key: value for key, value in entry.items() if key == "step"} == found


def test_step_as_shown() -> None:
    counts = tally()
    done = completion(0, [11])
    done.routing = [step(11, p_max=1.0000001, entropy=-1e-9, alternatives=((11, 0.75), (12, 0.25)))]
    counts.watch(output("chatcmpl-a", done))
    assert counts.take_trace(0) == [
        {
            "token_id": 11, "token": "<11>", "route": "soft", "p_max": 1.0, "entropy": 0.0,
            "alternatives": [
                {"token_id": 11, "token": "<11>", "weight": 0.75},
                {"token_id": 12, "token": "<12>", "weight": 0.25},
            ],
        }
    ]  # fmt: skip
