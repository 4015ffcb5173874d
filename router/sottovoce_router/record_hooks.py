"""The private names of vLLM through which the record leaves the engine, beside those of `seam`."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from .seam import wrap


def hook_messages(module: ModuleType) -> None:
    """`vllm.v1.serial_utils`: bytes that stand where an array is expected are one of bytes."""

    def make(original: Any) -> Any:
        import numpy as np

        none = np.empty(0, np.uint8)

        def decode_ndarray(self: Any, sent: Any) -> Any:
            if isinstance(sent, bytes):
                return np.frombuffer(sent, np.uint8) if sent else none
            return original(self, sent)

        return decode_ndarray

    wrap(module.MsgpackDecoder, "_decode_ndarray", make)


def hook_logprobs(module: ModuleType) -> None:
    """`vllm.v1.engine.logprobs`: take the routing record off the log-probability rows."""

    def make_new(original: Any) -> Any:
        def from_new_request(cls: Any, tokenizer: Any, request: Any) -> Any:
            from .params import stamp_of

            processor = original(cls, tokenizer, request)
            stamp = stamp_of(request.sampling_params)
            processor.routing = None if stamp is None else []
            processor.is_traced = stamp is not None and stamp["params"]["trace"]
            processor.ledger_bytes = 0 if stamp is None else stamp["ledger_bytes"]
            if stamp is not None and stamp["hides_logprobs"]:
                processor.logprobs = processor.cumulative_logprob = processor.num_logprobs = None
            return processor

        return from_new_request

    def make_update(original: Any) -> Any:
        from . import packed, record

        def update_from_output(self: Any, output: Any) -> None:
            lists = output.new_logprobs
            if lists is not None:
                if self.routing is not None:
                    rows = packed.unpack if packed.is_packed(lists) else record.rows
                    self.routing.extend(rows(lists))
                output.new_logprobs = None if self.num_logprobs is None else record.strip(lists)
            original(self, output)

        return update_from_output

    wrap(module.LogprobsProcessor, "from_new_request", make_new)
    wrap(module.LogprobsProcessor, "update_from_output", make_update)


def hook_output(module: ModuleType) -> None:
    """`vllm.v1.engine.output_processor`: hand the record over with the tokens it belongs to."""

    def make(original: Any) -> Any:
        from vllm.sampling_params import RequestOutputKind

        from .record import decode

        def new_output(self: Any, token_ids: Any, *args: Any, **kwargs: Any) -> Any:
            output = original(self, token_ids, *args, **kwargs)
            processor = self.logprobs_processor
            raw = getattr(processor, "routing", None)
            if raw is not None:
                output.ledger_bytes = processor.ledger_bytes
                output.routing = [
                    decode(t, r, processor.is_traced)
                    for t, r in zip(output.token_ids, raw, strict=False)
                ]
                if self.output_kind == RequestOutputKind.DELTA:
                    raw.clear()
            return output

        return new_output

    wrap(module.RequestState, "_new_completion_output", make)


def hook_merge(module: ModuleType) -> None:
    """`vllm.outputs`: outputs that wait for a slow reader are merged, and so are their records."""

    def make(original: Any) -> Any:
        def add(self: Any, next_output: Any, aggregate: bool) -> None:
            first = {completion.index: completion for completion in self.outputs}
            original(self, next_output, aggregate)
            for later in next_output.outputs if aggregate else ():
                steps = getattr(later, "routing", None)
                if steps and later.index in first:
                    merged = first[later.index]
                    merged.routing = [*(getattr(merged, "routing", None) or ()), *steps]

        return add

    wrap(module.RequestOutput, "add", make)


HOOKS: dict[str, Callable[[ModuleType], None]] = {
    "vllm.v1.serial_utils": hook_messages,
    "vllm.v1.engine.logprobs": hook_logprobs,
    "vllm.v1.engine.output_processor": hook_output,
    "vllm.outputs": hook_merge,
}
