"""Checks of the plugin against vLLM's own classes, in a process that loaded it as vLLM does.

Says, for each check, its name and what went wrong, or null.
"""

from __future__ import annotations

import gc
import importlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch

from router.hooked import HOOKED
from router.inside import ALL_MODES, admitted_sampling
from scripts import run_checks
from sottovoce_router import parse, record_hooks, seam
from sottovoce_router.capabilities import Capabilities
from sottovoce_router.latent import hooks as latent_hooks
from sottovoce_router.params import STAMP
from sottovoce_router.plugin import register
from sottovoce_router.shortcuts import hooks as shortcut_hooks

MARK = "_sottovoce_wrapped"


def _function(module: str, path: str) -> Any:
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return getattr(found, "__func__", found)


def _hooked() -> dict[str, Any]:
    return {f"{m}.{path}": _function(m, path) for m, paths in HOOKED.items() for path in paths}


def check_every_hook_is_in_place() -> None:
    """vLLM only logs what goes wrong in a plugin, so look for the effect."""
    hooks = (seam.HOOKS, record_hooks.HOOKS, latent_hooks.HOOKS, shortcut_hooks.HOOKS)
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
            sampling_params=admitted_sampling(**extra),
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


def check_the_stamp_reaches_the_worker() -> None:
    """It crosses to the engine process in vLLM's own encoding."""
    from vllm.sampling_params import SamplingParams
    from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

    sampling = admitted_sampling(reasoning_mode="routed", routing={"threshold": 0.25})
    decoded = MsgpackDecoder(SamplingParams).decode(MsgpackEncoder().encode(sampling))
    stamp = decoded.extra_args[STAMP]
    want = parse({"reasoning_mode": "routed", "routing": {"threshold": 0.25}})
    found = type(want).from_dict(stamp["params"])
    assert found == replace(want, min_answer_tokens=0), "the engine has no number of its own"
    assert stamp["hides_logprobs"] is True


def check_a_request_without_room_keeps_its_answer() -> None:
    """It runs as explicit, and vLLM's thinking budget ends its thinking where the policy would have."""
    from vllm.sampling_params import SamplingParams

    from sottovoce_router import slots as slots_module
    from sottovoce_router.ledger import Ledger
    from sottovoce_router.markers import MarkerIds

    def host(shape: tuple[int, int], dtype: torch.dtype) -> Any:
        """In place of memory that a device and its host share."""
        tensor = torch.zeros(shape, dtype=dtype)
        return SimpleNamespace(np=tensor.numpy(), gpu=tensor)

    device = torch.device("cpu")
    with mock.patch.object(slots_module, "UvaBackedTensor", host):
        slots = slots_module.SlotTable(2, Ledger(1, 64, 640, device, 0, 8), device)
    markers, tokens = MarkerIds((1,), (2, 3), (3,)), [5, 1, 7]
    budgets: list[int | None] = []
    for slot, name in enumerate(("first", "second")):
        sampling = SamplingParams(max_tokens=50)
        params = parse({"reasoning_mode": "latent", "routing": {"min_answer_tokens": 10}})
        slots.add(slot, name, params, sampling, tokens, len(tokens), markers)
        budgets.append(sampling.thinking_token_budget)
    assert slots.has_policy.tolist() == [True, False]
    assert budgets == [None, 50 - 10 - 2 + 1], "one token is thought in the prompt"


if __name__ == "__main__":
    run_checks(globals())
