"""The memory of one GPU under a load, and how many GPUs the load takes."""

from __future__ import annotations

from dataclasses import dataclass

from sottovoce_kernels.layout import MAX_STOP_IDS, NUM_FLOAT_PARAMS, NUM_INT_PARAMS, NUM_STATE
from sottovoce_router.capabilities import ROWS_PER_SLOT, ledger_size, positions_within

from .model_size import BYTES, ModelSize, PlanError

GIB = 2**30
RUNTIME_GIB = 1.0  # CUDA's context, NCCL's buffers and the CUDA graphs: a guess, not measured here
_MAX_TP = 8
_LOGIT_COPIES = 3  # float32: the logits, their processed copy, and the sampler's probabilities


@dataclass(frozen=True)
class Load:
    """What is to be served, and how."""

    gpu_gib: float
    context: int  # tokens of a sequence, prompt and answer together
    concurrency: int  # sequences at a time, over all replicas
    dtype: str = "bfloat16"
    kv_cache_dtype: str = "auto"  # that of the activations, or fp8
    tensor_parallel: int = 0  # 0: what takes the fewest GPUs
    utilization: float = 0.92
    batched_tokens: int = 8192
    ledger_gib: float = 4.0
    vector_ledger_gib: float = 0.25

    def __post_init__(self) -> None:
        for name in ("gpu_gib", "context", "concurrency", "batched_tokens", "ledger_gib"):
            if not getattr(self, name) > 0:
                raise PlanError(
                    f"--{name.replace('_', '-')} is {getattr(self, name)}; give more than 0"
                )
        if not self.vector_ledger_gib >= 0:
            raise PlanError(f"--vector-ledger-gib is {self.vector_ledger_gib}; give 0 or more")
        if not 0 < self.utilization <= 1:
            raise PlanError(
                f"--gpu-memory-utilization is {self.utilization}; give a share above 0, at most 1"
            )

    @property
    def compute_dtype(self) -> str:
        """Of activations: fp8 weights compute in 16 bits."""
        return "bfloat16" if self.dtype == "fp8" else self.dtype

    @property
    def kv_dtype(self) -> str:
        """Of keys and values."""
        return self.compute_dtype if self.kv_cache_dtype == "auto" else self.kv_cache_dtype


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU of a replica, all sequences of the replica at full length."""

    weights: float
    activations: float
    runtime: float
    ledger: float
    vectors: float
    soft_rows: float
    slots: float
    kv_cache: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.fixed + self.kv_cache

    @property
    def fixed(self) -> float:
        """What is there before the first sequence."""
        ours = self.ledger + self.vectors + self.soft_rows + self.slots
        return self.weights + self.activations + self.runtime + ours


@dataclass(frozen=True)
class Plan:
    """A replica and how many of it."""

    model: ModelSize
    load: Load
    tensor_parallel: int
    num_replicas: int
    num_seqs: int  # of a replica
    memory: Memory
    soft_positions: int  # generated tokens that a soft request at top-n 10 may have

    @property
    def num_gpus(self) -> int:
        """Over all replicas."""
        return self.tensor_parallel * self.num_replicas


def memory(model: ModelSize, load: Load, tp: int, num_seqs: int) -> Memory:
    """One GPU's memory in a replica of `tp` GPUs that runs `num_seqs` sequences."""
    width = BYTES[load.compute_dtype]
    embeds = load.batched_tokens * model.hidden * width
    rows = ROWS_PER_SLOT * num_seqs
    positions = positions_within(load.ledger_gib * GIB, rows, load.context)
    vector = model.hidden * width
    num_vectors = min(load.vector_ledger_gib * GIB // vector, rows * load.context)
    slot = NUM_INT_PARAMS + NUM_FLOAT_PARAMS + MAX_STOP_IDS + NUM_STATE
    return Memory(
        weights=model.weight_bytes(load.dtype) / tp,
        activations=_activations(model, load, tp, num_seqs, width),
        runtime=RUNTIME_GIB * GIB,
        ledger=ledger_size(rows, positions),
        vectors=(num_vectors + 1) * vector,
        # The buffer of input embeddings; shards also sum each other's parts (embedding.py, overlay).
        soft_rows=embeds if tp == 1 else 4 * embeds,
        slots=4.0 * num_seqs * slot + model.vocab,
        kv_cache=num_seqs * model.kv_bytes(load.context, load.kv_dtype, tp),
    )


def _activations(model: ModelSize, load: Load, tp: int, num_seqs: int, width: float) -> float:
    """The largest layer of a full step, and the logits: an estimate; vLLM measures at start-up."""
    heads = (model.num_heads + 2 * model.num_kv_heads) * model.head_dim
    layer = 2 * model.hidden + (max(heads, 2 * model.intermediate)) / tp
    logits = num_seqs * model.vocab * (width + 4 * _LOGIT_COPIES)
    return load.batched_tokens * layer * width + logits


def _room(model: ModelSize, load: Load, tp: int, num_seqs: int) -> float:
    return load.gpu_gib * GIB * load.utilization - memory(model, load, tp, num_seqs).total


def _largest_batch(model: ModelSize, load: Load, tp: int) -> int:
    """Sequences that a replica of `tp` GPUs has room for, up to the concurrency; 0: not one."""
    low, high = 0, load.concurrency
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _room(model, load, tp, middle) >= 0 else (low, middle - 1)
    return low


def _divides(model: ModelSize, tp: int) -> bool:
    """Whether vLLM can shard the model over so many GPUs."""
    queries = model.num_heads % tp == 0
    return queries and (model.num_kv_heads % tp == 0 or tp % model.num_kv_heads == 0)


def _choices(model: ModelSize, load: Load) -> list[int]:
    if load.tensor_parallel == 0:
        return [tp for tp in (1, 2, 4, _MAX_TP) if _divides(model, tp)]
    if load.tensor_parallel < 0 or not _divides(model, load.tensor_parallel):
        raise PlanError(
            f"--tensor-parallel-size is {load.tensor_parallel}, which does not divide the "
            f"{model.num_heads} attention heads and {model.num_kv_heads} key-value heads of "
            f"{model.name}; give a divisor"
        )
    return [load.tensor_parallel]


def plan(model: ModelSize, load: Load) -> Plan:
    """The fewest GPUs that the load takes, in the smallest replicas.

    Raises:
        PlanError: where no replica holds one, or the model has no such context.
    """
    if load.context > model.max_context:
        raise PlanError(
            f"--context is {load.context}, more than the {model.max_context} tokens of {model.name}"
        )
    choices = _choices(model, load)
    batches = {tp: _largest_batch(model, load, tp) for tp in choices}
    found = [_replicate(model, load, tp, batch) for tp, batch in batches.items() if batch]
    if found:
        return min(found, key=lambda plan: (plan.num_gpus, plan.tensor_parallel))
    lacking = memory(model, load, choices[-1], 1)
    raise PlanError(
        f"{model.name} with one sequence of {load.context} tokens takes {lacking.total / GIB:.1f} GiB "
        f"on each of {choices[-1]} GPUs, and each gives {load.gpu_gib * load.utilization:.1f}; take a "
        "larger GPU, a higher --tensor-parallel-size, a shorter --context, or --dtype fp8"
    )


def _replicate(model: ModelSize, load: Load, tp: int, batch: int) -> Plan:
    num_replicas = -(-load.concurrency // batch)
    num_seqs = -(-load.concurrency // num_replicas)
    positions = positions_within(load.ledger_gib * GIB, ROWS_PER_SLOT * num_seqs, load.context)
    return Plan(
        model, load, tp, num_replicas, num_seqs, memory(model, load, tp, num_seqs), positions
    )
