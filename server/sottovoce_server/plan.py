"""`sottovoce plan`: the GPUs that a model and a load take, before anything is started."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from typing import Any

from .capacity import GIB, Load, Plan, plan
from .model_size import BYTES, PlanError, read_model
from .presets import GPU_GIB

_WHAT = {
    "weights": "weights",
    "activations": "activations and logits (estimate)",
    "runtime": "CUDA, NCCL, CUDA graphs (guess)",
    "ledger": "ledger of soft inputs",
    "vectors": "its mixtures of the whole vocabulary",
    "soft_rows": "buffers of input embeddings",
    "slots": "routing parameters and state",
    "kv_cache": "KV cache",
}


def _gpu_gib(text: str) -> float:
    named = {name.lower(): gib for name, gib in GPU_GIB.items()}.get(text.lower())
    if named is not None:
        return named
    try:
        return float(text.lower().removesuffix("gib"))
    except ValueError:
        raise PlanError(
            f"--gpu is {text}; give its memory in GiB, or one of {', '.join(GPU_GIB)}"
        ) from None


def build_parser() -> argparse.ArgumentParser:
    """The flags; those that vLLM has too are named as there."""
    parser = argparse.ArgumentParser(prog="sottovoce plan", description=__doc__)
    add = parser.add_argument
    add("model", help="config.json, its directory, or a preset such as Qwen3-8B")
    add("--gpu", required=True, help="a name such as H100, or its memory in GiB")
    add("--context", type=int, required=True, help="tokens of a sequence: prompt and answer")
    add("--concurrency", type=int, required=True, help="sequences at a time, over all replicas")
    add("--dtype", choices=[*BYTES], default="bfloat16", help="of the weights; default bfloat16")
    add("--kv-cache-dtype", choices=["auto", "fp8"], default="auto", help="default auto")
    add(
        "--tensor-parallel-size", type=int, default=0, help="GPUs of a replica; default: the fewest"
    )
    add("--gpu-memory-utilization", type=float, default=0.92, help="vLLM's share; default 0.92")
    add("--max-num-batched-tokens", type=int, default=8192, help="of a step; default 8192")
    add("--ledger-gib", type=float, default=4.0, help="as in `sottovoce serve`; default 4")
    add("--vector-ledger-gib", type=float, default=0.25, help="the same; default 0.25")
    add("--json", action="store_true", help="print JSON, sizes in bytes")
    return parser


def _load(args: argparse.Namespace) -> Load:
    return Load(
        gpu_gib=_gpu_gib(args.gpu),
        context=args.context,
        concurrency=args.concurrency,
        dtype=args.dtype,
        kv_cache_dtype=args.kv_cache_dtype,
        tensor_parallel=args.tensor_parallel_size,
        utilization=args.gpu_memory_utilization,
        batched_tokens=args.max_num_batched_tokens,
        ledger_gib=args.ledger_gib,
        vector_ledger_gib=args.vector_ledger_gib,
    )


def flags(found: Plan) -> list[str]:
    """What each replica is started with."""
    load = found.load
    given: dict[str, object] = {
        "--tensor-parallel-size": found.tensor_parallel,
        "--max-model-len": load.context,
        "--max-num-seqs": found.num_seqs,
        "--max-num-batched-tokens": load.batched_tokens,
        "--gpu-memory-utilization": load.utilization,
        "--ledger-gib": load.ledger_gib,
        "--vector-ledger-gib": load.vector_ledger_gib,
    }
    if load.dtype == "fp8":
        given["--quantization"] = "fp8"
    elif not found.model.is_mxfp4:
        given["--dtype"] = load.dtype
    if load.kv_cache_dtype != "auto":
        given["--kv-cache-dtype"] = load.kv_cache_dtype
    return [word for flag, value in given.items() for word in (flag, str(value))]


def as_json(found: Plan) -> dict[str, Any]:
    """The plan, sizes in bytes."""
    model, load = found.model, found.load
    return {
        "model": model.name,
        "parameters": model.num_parameters,
        "kv_bytes_per_token": model.kv_bytes_per_token(load.kv_dtype, found.tensor_parallel),
        "gpus": found.num_gpus,
        "replicas": found.num_replicas,
        "tensor_parallel_size": found.tensor_parallel,
        "sequences_per_replica": found.num_seqs,
        "soft_tokens_per_request": found.soft_positions,
        "bytes_per_gpu": {**asdict(found.memory), "total": found.memory.total},
        "usable_bytes_per_gpu": load.gpu_gib * load.utilization * GIB,
        "flags": flags(found),
    }


def as_table(found: Plan) -> str:
    """The plan, for reading."""
    model, load, memory = found.model, found.load, found.memory
    per_token = model.kv_bytes_per_token(load.kv_dtype, found.tensor_parallel)
    sizes = [(_WHAT[name], size) for name, size in asdict(memory).items()]
    usable = load.gpu_gib * load.utilization * GIB
    sizes += [("total", memory.total), ("usable", usable), ("left over", usable - memory.total)]
    lines = [
        f"{model.name}: {model.num_parameters / 1e9:.2f} billion parameters, "
        f"{per_token / 1024:g} KiB of KV cache a token on each GPU",
        f"{found.num_gpus} GPU(s): {found.num_replicas} replica(s) of {found.tensor_parallel}, "
        f"{found.num_seqs} sequences of {load.context} tokens each",
        "",
        *(f"{what:<36}{size / GIB:9.3f} GiB a GPU" for what, size in sizes),
        "",
    ]
    if found.soft_positions < load.context:
        lines.append(
            f"A soft request may generate {found.soft_positions} tokens at routing.top_n 10: "
            "--ledger-gib sets it."
        )
    return "\n".join(
        [*lines, f"sottovoce serve {shlex.quote(model.served_as)} " + " ".join(flags(found))]
    )


def main(argv: list[str]) -> None:
    """Print the plan, or say on stderr why there is none and exit with 1."""
    args = build_parser().parse_args(argv)
    try:
        found = plan(read_model(args.model), _load(args))
    except PlanError as error:
        sys.exit(f"sottovoce plan: {error}")
    print(json.dumps(as_json(found), indent=1) if args.json else as_table(found))
