"""Temperature and min-p against vLLM's own kernels."""

from collections.abc import Callable

import pytest
import torch
from engine_scenes import generator, logits

Compare = Callable[..., None]
SHAPES = [(1, 1), (3, 63), (7, 1000)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize(("num_rows", "vocab_size"), SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", [0, 5])
def test_temperature(
    compare: Compare, num_rows: int, vocab_size: int, dtype: torch.dtype, padding: int
) -> None:
    source = generator(vocab_size)
    values = logits(source, num_rows, vocab_size, dtype, padding)
    compare(
        "sample.gumbel._temperature_kernel",
        (num_rows, -(-vocab_size // 256)),
        {
            "logits_ptr": values,
            "logits_stride": values.stride(0),
            "expanded_idx_mapping_ptr": torch.randperm(8, generator=source)[:num_rows].int(),
            "temperature_ptr": torch.tensor([0.0, 1.0, 0.6, 0.7, 1.3, 2.0, 1e-3, 0.9]),
            "vocab_size": vocab_size,
            "BLOCK_SIZE": 256,
        },
    )


@pytest.mark.parametrize(("num_rows", "vocab_size"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32])  # the interpreter takes no half here
@pytest.mark.parametrize("padding", [0, 5])
def test_min_p(
    compare: Compare, num_rows: int, vocab_size: int, dtype: torch.dtype, padding: int
) -> None:
    source = generator(vocab_size)
    values = logits(source, num_rows, vocab_size, dtype, padding)
    compare(
        "sample.min_p._min_p_kernel",
        (num_rows,),
        {
            "logits_ptr": values,
            "logits_stride": values.stride(0),
            "expanded_idx_mapping_ptr": torch.randperm(8, generator=source)[:num_rows].int(),
            "min_p_ptr": torch.tensor([0.0, 1.0, 0.05, 0.1, 1e-3, 0.5, 0.9, 0.2]),
            "vocab_size": vocab_size,
            "BLOCK_SIZE": 256,
        },
    )
