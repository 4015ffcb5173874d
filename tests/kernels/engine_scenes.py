"""Random arguments for the engine's kernels: batches of requests, logits, and poisoned outputs."""

from dataclasses import dataclass

import torch

MAX_SLOTS = 16
MAX_LEN = 96
POISON = -77


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def integers(
    source: torch.Generator, low: int, high: int, *shape: int, dtype: torch.dtype = torch.int32
) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=source).to(dtype)


def poison(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
    return torch.full(shape, float("nan") if dtype.is_floating_point else POISON, dtype=dtype)


def addresses(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.tensor([tensor.data_ptr() for tensor in tensors], dtype=torch.uint64)


def logits(
    source: torch.Generator,
    num_rows: int,
    vocab_size: int,
    dtype: torch.dtype = torch.float32,
    padding: int = 0,
) -> torch.Tensor:
    """Make logits with ties and -inf among them; with padding, a slice of NaN-padded rows."""
    values = torch.randn(num_rows, vocab_size, generator=source) * 3
    values[:, ::3] = values[:, ::3].round()
    values[torch.rand(num_rows, vocab_size, generator=source) < 0.1] = -float("inf")
    values[:, vocab_size // 2] = 2.0  # no row is -inf throughout
    memory = torch.full((num_rows, vocab_size + padding), float("nan"), dtype=dtype)
    memory[:, :vocab_size] = values
    return memory[:, :vocab_size]


@dataclass(frozen=True)
class Batch:
    """A batch of scheduled requests over the slots of the running state."""

    slots: torch.Tensor  # [rows] row -> slot
    query_lens: torch.Tensor  # [rows]
    starts: torch.Tensor  # [rows + 1]
    num_computed: torch.Tensor  # [slots]
    prefill_lens: torch.Tensor  # [slots]
    token_ids: torch.Tensor  # [slots, MAX_LEN]

    @property
    def num_rows(self) -> int:
        return self.slots.shape[0]

    @property
    def num_tokens(self) -> int:
        return int(self.starts[-1])

    @property
    def seq_lens(self) -> torch.Tensor:
        return self.num_computed[self.slots.long()] + self.query_lens


def cumulative(counts: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros(1, dtype=torch.int32), counts.cumsum(0).int()])


def batch(source: torch.Generator, num_rows: int, max_query: int = 20) -> Batch:
    query_lens = integers(source, 0, max_query + 1, num_rows)
    slots = torch.randperm(MAX_SLOTS, generator=source)[:num_rows].int()
    num_computed = integers(source, 1, MAX_LEN - max_query - 8, MAX_SLOTS)
    prefill_lens = integers(source, 1, MAX_LEN, MAX_SLOTS)
    # Decisions turn at the lengths before and after the step, and a few tokens short of the latter.
    near = slots[::2].long()
    prefill_lens[near] = num_computed[near] + query_lens[::2] - integers(source, 0, 3, len(near))
    prefill_lens[slots[1::4].long()] = num_computed[slots[1::4].long()]
    return Batch(
        slots=slots,
        query_lens=query_lens,
        starts=cumulative(query_lens),
        num_computed=num_computed,
        prefill_lens=prefill_lens,
        token_ids=integers(source, 0, 1000, MAX_SLOTS, MAX_LEN),
    )
