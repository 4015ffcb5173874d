"""Checks of the plugin against vLLM's own classes, in a process that loaded it as vLLM does.

Says, for each check, its name and what went wrong, or null.
"""

from __future__ import annotations

import gc
import importlib
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from scenes import make_record

from router.hooked import HOOKED
from scripts import run_checks
from sottovoce_router import parse, seam
from sottovoce_router.admission import admit
from sottovoce_router.capabilities import Capabilities
from sottovoce_router.latent import hooks as latent_hooks
from sottovoce_router.params import STAMP
from sottovoce_router.plugin import register
from sottovoce_router.record import Step, attach, decode, rows, strip, with_texts
from sottovoce_router.shortcuts import hooks as shortcut_hooks

MARK = "_sottovoce_wrapped"
ALL_MODES = Capabilities(
    refusal=None, ledger_entries=10_000, ledger_positions=1_000, max_model_len=1_000
)


def _function(module: str, path: str) -> Any:
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return getattr(found, "__func__", found)


def _hooked() -> dict[str, Any]:
    return {f"{m}.{path}": _function(m, path) for m, paths in HOOKED.items() for path in paths}


def _sampling(logprobs: int | None = None, **extra: Any) -> Any:
    """Sampling parameters that have passed admission."""
    from vllm import SamplingParams

    sampling = SamplingParams(logprobs=logprobs, max_tokens=10, extra_args=extra)
    request = SimpleNamespace(sampling_params=sampling, prompt_token_ids=[1], prompt_embeds=None)
    admit(request, ALL_MODES)
    return sampling


def check_every_hook_is_in_place() -> None:
    """vLLM only logs what goes wrong in a plugin, so look for the effect."""
    hooks = (seam.HOOKS, latent_hooks.HOOKS, shortcut_hooks.HOOKS)
    assert HOOKED.keys() == {module for table in hooks for module in table}
    missing = [name for name, function in _hooked().items() if not hasattr(function, MARK)]
    assert missing == []


def check_registering_again_wraps_once() -> None:
    """A hook already in place stays as it is."""
    before = _hooked()
    register()
    after = _hooked()
    assert before == after
    twice = [name for name, f in after.items() if hasattr(f.__wrapped__, MARK)]
    assert twice == []


def check_imports_are_frozen_in_a_process_of_vllms() -> None:
    gc.unfreeze()
    register()
    assert gc.get_freeze_count() == 0
    with mock.patch("multiprocessing.parent_process"):
        register()
    assert gc.get_freeze_count() > 100_000
    gc.unfreeze()


def check_compiled_models_are_found_by_what_they_take() -> None:
    """Stock vLLM compiles for token ids and would load that, unchecked, for embeddings."""
    from vllm.compilation import caching
    from vllm.config import VllmConfig

    from sottovoce_router.capabilities import Capabilities

    def factors(refusal: str | None) -> list[Any]:
        with mock.patch.object(Capabilities, "from_config") as found:
            found.return_value.refusal = refusal
            return list(caching.aot_compile_hash_factors(config))

    config = VllmConfig()
    stock = list(caching.aot_compile_hash_factors.__wrapped__(config))
    assert factors(None)[: len(stock)] == stock
    assert len(factors(None)) > len(stock)
    assert factors("needs markers") == stock, "an engine without soft modes takes token ids"


def check_a_constant_outlives_sleep() -> None:
    """Level 2 drops all that was allocated, and copies `named_buffers` back in place."""
    import torch

    from sottovoce_router.model_state import outlive_sleep

    model, end = torch.nn.Linear(2, 2), torch.tensor([7, 8])
    outlive_sleep(model, "end", end)
    ((_, kept),) = model.named_buffers()
    assert kept.data_ptr() == end.data_ptr()
    assert model.state_dict().keys() == {"weight", "bias"}, "no checkpoint has such a tensor"


def check_only_ended_requests_are_finished() -> None:
    """A preempted request keeps its ledger row; an ended one gives it back."""
    from vllm.v1.worker.gpu.model_runner import GPUModelRunner

    removed: list[str] = []
    finished: list[str] = []
    runner: Any = SimpleNamespace(
        pooling_runner=None,
        _remove_request=removed.append,
        model_state=SimpleNamespace(finish_request=finished.append),
    )
    output: Any = SimpleNamespace(finished_req_ids={"ended"}, preempted_req_ids={"preempted"})
    GPUModelRunner.finish_requests(runner, output)
    assert sorted(removed) == ["ended", "preempted"]
    assert finished == ["ended"]
    runner.model_state = SimpleNamespace()  # a model state that is not routed
    GPUModelRunner.finish_requests(runner, output)


def check_soft_blocks_are_their_requests_own() -> None:
    """Blocks of the prompt are shared; one that reaches past it is keyed by its request."""
    from vllm.v1.core.kv_cache_utils import generate_block_hash_extra_keys

    def keys(name: str, end: int, **extra: Any) -> Any:
        request: Any = SimpleNamespace(
            request_id=name,
            num_prompt_tokens=16,
            sampling_params=_sampling(**extra),
            mm_features=[],
            lora_request=None,
            cache_salt="salt",
            prompt_embeds=None,
        )
        return generate_block_hash_extra_keys(request, 0, end, 0)[0]

    salted = keys("a", 16)
    assert salted is not None
    assert keys("a", 16, reasoning_mode="latent") == salted
    assert keys("a", 32, reasoning_mode="explicit") == salted
    assert keys("a", 32, include_reasoning_trace=True) == salted
    soft = keys("a", 32, reasoning_mode="latent")
    assert soft == keys("a", 32, reasoning_mode="routed") == (*salted, ("sottovoce", "a"))
    assert keys("b", 32, reasoning_mode="latent") != soft


def check_admission_refuses_as_vllm_does() -> None:
    """A refusal names its key, and reaches the client as a bad request."""
    from vllm.exceptions import VLLMValidationError

    sampling = SimpleNamespace(extra_args={"reasoning_mode": "x"}, seed=None)
    request = SimpleNamespace(sampling_params=sampling, prompt_embeds=None)
    owner: Any = type("InputProcessor", (), {"process_inputs": lambda self: request})
    module: Any = SimpleNamespace(InputProcessor=owner)
    seam.HOOKS["vllm.v1.engine.input_processor"](module)
    processor = owner()
    processor.vllm_config = None
    with (
        mock.patch.object(Capabilities, "from_config", return_value=ALL_MODES),
        pytest.raises(VLLMValidationError, match="'x' must be one of") as caught,
    ):
        processor.process_inputs()
    assert caught.value.parameter == "reasoning_mode"


def _processor(sampling: Any) -> Any:
    from vllm.v1.engine.logprobs import LogprobsProcessor

    request: Any = SimpleNamespace(sampling_params=sampling)
    return LogprobsProcessor.from_new_request(None, request)


def _update(processor: Any, tensors: Any, row: int) -> None:
    """One engine step's output for the request in `row`."""
    from vllm.v1.engine import EngineCoreOutput

    lists = tensors.tolists().slice_request(row, 1)
    processor.update_from_output(EngineCoreOutput("request", [1], new_logprobs=lists))


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
    processor = _processor(_sampling(reasoning_mode="latent"))
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
        seen, plain = _processor(_sampling(2, **extra)), _processor(_sampling(2))
        for row in (0, 1):
            _update(seen, joined, row)
            _update(plain, user, row)
        assert seen.logprobs == plain.logprobs
        assert seen.cumulative_logprob == plain.cumulative_logprob
        assert (seen.routing is None) == (not extra)


def check_an_unrouted_request_beside_routed_ones() -> None:
    """It asked for no logprobs and gets none, though its rows carry some."""
    processor = _processor(_sampling())
    joined = attach(None, make_record([(1, [(7, 1.0)])], width=1), torch.tensor([7]))
    _update(processor, joined, row=0)
    assert (processor.logprobs, processor.routing) == (None, None)


def check_steps_of_different_widths() -> None:
    """The trace's width is that of the widest request in the batch of a step."""
    processor = _processor(_sampling(reasoning_mode="latent"))
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


def check_the_stamp_reaches_the_worker() -> None:
    """It crosses to the engine process in vLLM's own encoding."""
    from vllm.sampling_params import SamplingParams
    from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

    sampling = _sampling(reasoning_mode="routed", routing={"threshold": 0.25})
    decoded = MsgpackDecoder(SamplingParams).decode(MsgpackEncoder().encode(sampling))
    stamp = decoded.extra_args[STAMP]
    want = parse({"reasoning_mode": "routed", "routing": {"threshold": 0.25}})
    assert type(want).from_dict(stamp["params"]) == want
    assert stamp["hides_logprobs"] is True


if __name__ == "__main__":
    run_checks(globals())
