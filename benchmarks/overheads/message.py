"""A record's way from the engine's process to the server's: as bytes, and as vLLM sends arrays."""

from __future__ import annotations

import time
from typing import Any

import torch
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.outputs import LogprobsTensors
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from sottovoce_kernels.layout import RECORD_EXTRA
from sottovoce_router import packed, record, record_hooks, seam

from ..rows import append

_KINDS = {"bytes": packed.RecordTensors, "arrays": LogprobsTensors}


def sent(tensors: Any) -> list[Any]:
    """A step's rows, of which each request gets and unpacks its own."""
    lists = tensors.tolists()
    outputs = [
        EngineCoreOutput(str(i), [i], new_logprobs=lists.slice_request(i, 1))
        for i in range(len(tensors.logprobs))
    ]
    parts = [bytes(part) for part in MsgpackEncoder().encode(EngineCoreOutputs(outputs=outputs))]
    received = MsgpackDecoder(EngineCoreOutputs).decode(parts).outputs
    rows = [output.new_logprobs for output in received]
    return [packed.unpack(r) if packed.is_packed(r) else record.rows(r) for r in rows]


def cpu_us_per_request(num_requests: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds of processor time of a step, a request, in both processes together."""
    seam.install(record_hooks.HOOKS)
    ids = torch.ones(num_requests, RECORD_EXTRA, dtype=torch.int64)
    values = torch.rand(num_requests, RECORD_EXTRA)
    ids[:, -1] = -RECORD_EXTRA
    found: dict[str, list[float]] = {name: [] for name in _KINDS}
    for _ in range(rounds):
        for name, kind in _KINDS.items():
            started = time.process_time()
            sent(kind(ids, values, ids[:, 0]))
            found[name].append((time.process_time() - started) / num_requests * 1e6)
    return found


def bench(num_requests: int, rounds: int) -> None:
    """A row for each kind."""
    for name, values in cpu_us_per_request(num_requests, rounds).items():
        append("message", {"requests": num_requests}, f"as {name}", "us of CPU a step", values)
        print(f"as {name}: {sorted(values)[len(values) // 2]:.2f} us of CPU a request and step")
