"""Checks of the record on vLLM's own classes, in a process that loaded the plugin as vLLM does.

Says, for each check, its name and what went wrong, or null.
"""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from scenes import make_record

from router.inside import admitted_sampling
from scripts import run_checks
from sottovoce_router.record import Step, attach, decode, rows, strip, with_texts


def _processor(sampling: Any) -> Any:
    from vllm.v1.engine.logprobs import LogprobsProcessor

    request: Any = SimpleNamespace(sampling_params=sampling)
    return LogprobsProcessor.from_new_request(None, request)


def _output(lists: Any) -> Any:
    from vllm.v1.engine import EngineCoreOutput

    return EngineCoreOutput("request", [1], new_logprobs=lists)


def _update(processor: Any, tensors: Any, row: int) -> None:
    """One engine step's output for the request in `row`."""
    processor.update_from_output(_output(tensors.tolists().slice_request(row, 1)))


def _user_tensors(num_rows: int, columns: int) -> Any:
    from vllm.v1.outputs import LogprobsTensors

    ids = torch.arange(num_rows * columns).reshape(num_rows, columns)
    return LogprobsTensors(ids, -ids.float(), torch.arange(num_rows) + 1)


def check_record_beside_logprobs() -> None:
    """Users' columns come back bit for bit, and so does the record."""
    user = _user_tensors(2, 3)
    record = make_record([(1, [(7, 0.75), (8, 0.25)]), (2, [])], width=2)
    joined = attach(user, record, None)
    assert joined.logprob_token_ids.shape == (2, 3 + 5)
    lists, raw = strip(joined.tolists()), rows(joined.tolists())
    want = user.tolists()
    for name in ("logprob_token_ids", "logprobs", "sampled_token_ranks"):
        assert np.array_equal(getattr(lists, name), getattr(want, name)), name
    assert decode(4, raw[0]) == Step(4, "soft", 0.5, 1.5, ((7, 0.75), (8, 0.25)))
    assert decode(5, raw[1]) == Step(5, "discrete", 1.5, 2.5)


def check_record_alone() -> None:
    """Without logprobs of anyone the rows hold the record only."""
    joined = attach(None, make_record([(3, [])], width=0), torch.tensor([9]))
    lists, raw = strip(joined.tolists()), rows(joined.tolists())
    assert lists.logprob_token_ids.shape == lists.logprobs.shape == (1, 0)
    assert [decode(9, row).route for row in raw] == ["forced"]


def check_record_keeps_device_boundaries() -> None:
    """Fields of vLLM's rows that we do not know about pass through."""
    boundaries = torch.tensor([0, 1])
    user = _user_tensors(1, 1)._replace(cu_num_generated_tokens_tensor=boundaries)
    joined = attach(user, make_record([(0, [])], 0), None)
    assert joined.cu_num_generated_tokens_tensor is boundaries


def check_rows_without_a_record_pass_through() -> None:
    """Also rows that hold nothing at all."""
    for columns in (1, 4):
        lists = _user_tensors(2, columns).tolists()
        assert rows(lists) == []
        for kept, given in zip(strip(lists), lists, strict=True):
            np.testing.assert_array_equal(kept, given)
    assert rows(_user_tensors(0, 1).tolists()) == []


def check_a_hidden_request_sees_no_logprobs() -> None:
    """A routed request that asked for none gets none, and its record."""
    processor = _processor(admitted_sampling(reasoning_mode="latent"))
    assert (processor.logprobs, processor.num_logprobs) == (None, None)
    joined = attach(_user_tensors(2, 3), make_record([(1, [(7, 1.0)]), (0, [])], 1), None)
    _update(processor, joined, row=0)
    _update(processor, joined, row=1)
    assert processor.logprobs is None
    assert [decode(1, raw).route for raw in processor.routing] == ["soft", None]


def check_logprobs_are_what_they_were() -> None:
    """Requests in one batch, with and without a record, see the log-probabilities of vLLM alone."""
    user = _user_tensors(2, 3)
    joined = attach(user, make_record([(1, [(7, 1.0)]), (0, [])], width=4), None)
    for extra in ({"reasoning_mode": "latent"}, {}):
        seen, plain = _processor(admitted_sampling(2, **extra)), _processor(admitted_sampling(2))
        for row in (0, 1):
            _update(seen, joined, row)
            _update(plain, user, row)
        assert seen.logprobs == plain.logprobs
        assert seen.cumulative_logprob == plain.cumulative_logprob
        assert (seen.routing is None) == (not extra)


def _sent(lists: Any) -> Any:
    """What the engine's process sends of a request's rows, and another receives."""
    from vllm.v1.engine import EngineCoreOutputs
    from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

    outputs = EngineCoreOutputs(outputs=[_output(lists)])
    parts = [bytes(part) for part in MsgpackEncoder().encode(outputs)]
    return MsgpackDecoder(EngineCoreOutputs).decode(parts).outputs[0]


def check_records_cross_to_another_process() -> None:
    """As bytes where nobody asked for logprobs, several tokens of one request too."""
    record = make_record([(1, [(7, 0.75), (8, 0.25)]), (2, []), (3, [(9, 1.0)])], width=2)
    made = attach(None, record, torch.tensor([7, 8, 9])).tolists([0, 2, 3])
    want = [decode(4, raw) for raw in rows(made)]
    lists = pickle.loads(pickle.dumps(made))  # as a worker hands them to the engine's core
    found = []
    for index, num_tokens in ((0, 2), (1, 1)):
        part = lists.slice_request(index, num_tokens)
        assert not any(isinstance(field, np.ndarray) for field in part)
        for output in (_sent(part), _output(part)):  # or to its own
            processor = _processor(admitted_sampling(reasoning_mode="latent"))
            processor.update_from_output(output)
            steps = [decode(4, raw, is_traced=True) for raw in processor.routing]
            assert steps == want[len(found) : len(found) + num_tokens]
        found += steps
    assert found == want
    assert want[0].alternatives == ((7, 0.75), (8, 0.25))


def check_a_benchmark_sends_what_it_says() -> None:
    """Records sent either way are the same ones; only bytes hold no array."""
    from benchmarks.overheads import message
    from vllm.v1.outputs import LogprobsTensors

    from sottovoce_router.packed import RecordTensors

    record = make_record([(1, [(7, 1.0)]), (2, [])], width=1)
    found = [
        [[list(ids), list(values)] for request in message.sent(kind(*vars(record).values(), record.ids[:, 0]))
         for ids, values in request]
        for kind in (RecordTensors, LogprobsTensors)
    ]  # fmt: skip
    assert found[0] == found[1]
    assert found[0] == [
        list(row) for row in zip(record.ids.tolist(), record.values.tolist(), strict=True)
    ]
    assert {k: len(v) for k, v in message.cpu_us_per_request(3, 2).items()} == {
        "bytes": 2,
        "arrays": 2,
    }


def check_arrays_cross_as_they_did() -> None:
    """Log-probabilities are sent as vLLM sends them."""
    lists = _user_tensors(2, 3).tolists().slice_request(1, 1)
    for sent, given in zip(_sent(lists).new_logprobs, lists, strict=True):
        np.testing.assert_array_equal(sent, given)


def check_an_unrouted_request_beside_routed_ones() -> None:
    """It asked for no logprobs and gets none, though its rows carry some."""
    processor = _processor(admitted_sampling())
    joined = attach(None, make_record([(1, [(7, 1.0)])], width=1), torch.tensor([7]))
    _update(processor, joined, row=0)
    assert (processor.logprobs, processor.routing) == (None, None)


def check_steps_of_different_widths() -> None:
    """The trace's width is that of the widest request in the batch of a step."""
    processor = _processor(admitted_sampling(reasoning_mode="latent"))
    for width, columns in ((3, 0), (1, 2), (10, 5)):
        record = make_record([(1, [(7, 0.5), (8, 0.5)][:width])], width)
        user = _user_tensors(1, columns) if columns else None
        _update(processor, attach(user, record, torch.tensor([7])), row=0)
    alternatives = [len(decode(7, raw).alternatives) for raw in processor.routing]
    assert alternatives == [2, 1, 2]


def check_texts_beside_rows_without() -> None:
    """A batch in which one latent is read, one may be and is not fed, and others never are."""
    pairs = [(7, 0.5), (8, 0.25)]
    plain = make_record([(4, pairs), (4, []), (1, pairs), (0, [])], width=2)
    texts, is_read = torch.tensor([[5, 0, -1], [6, 6, 6]]), torch.tensor([True, False])
    record = with_texts(plain, torch.tensor([0, 1]), texts, is_read)
    user = _user_tensors(4, 3)
    joined = attach(user, record, None).tolists()
    assert np.array_equal(strip(joined).logprobs, user.tolists().logprobs)
    before, after = rows(attach(None, plain, torch.zeros(4)).tolists()), rows(joined)
    steps = [decode(1, raw) for raw in after]
    assert [step.text for step in steps] == [(5, 0), None, None, None]
    assert [step._replace(text=None) for step in steps] == [decode(1, raw) for raw in before]
    assert decode(1, after[0], is_traced=False).text is None


if __name__ == "__main__":
    run_checks(globals())
