"""Gumbel-max sampling against vLLM's own kernel: the same token for a seed, in every mode."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from engine_scenes import generator, integers, logits, poison

from sottovoce_kernels.engine import CPU_KERNELS, gumbel

Arguments = dict[str, Any]
KERNEL = "sample.gumbel._gumbel_sample_kernel"
BLOCK = 1024
TEMPERATURES = [0.0, 1.0, 0.6, 2.5]
# The logarithm of numpy, which the interpreter uses, and that of libm differ in the last bit or two
# of a noise of up to 23; the winner's logit is added to it.
TOLERANCE = {torch.float32: 4e-6, torch.float64: 1e-13}


def arguments(values: torch.Tensor, seed: int, fp64: bool = False, **changes: Any) -> Arguments:
    num_rows, vocab_size = values.shape
    num_blocks = -(-vocab_size // BLOCK)
    source = generator(seed)
    slots = torch.randperm(num_rows + 2, generator=source)[:num_rows].int()
    temperatures = torch.tensor(TEMPERATURES).repeat(num_rows)[: num_rows + 2]
    return {
        "local_argmax_ptr": poison(num_rows, num_blocks, dtype=torch.int64),
        "local_argmax_stride": num_blocks,
        "local_max_ptr": poison(
            num_rows, num_blocks, dtype=torch.float64 if fp64 else torch.float32
        ),
        "local_max_stride": num_blocks,
        "logits_cache_ptr": None,
        "logits_cache_stride_0": 0,
        "logits_cache_stride_1": 0,
        "logits_cache_col_ptr": None,
        "logits_cache_source_ptr": None,
        "logits_cache_source_stride": 0,
        "logits_ptr": values,
        "logits_stride": values.stride(0),
        "expanded_idx_mapping_ptr": slots,
        "seeds_ptr": integers(source, -(2**62), 2**62, num_rows + 2, dtype=torch.int64),
        "pos_ptr": integers(source, 0, 2**20, num_rows, dtype=torch.int64),
        "temp_ptr": temperatures if num_rows > 1 else torch.full((3,), 0.8),
        "vocab_size": vocab_size,
        "BLOCK_SIZE": BLOCK,
        "IS_DRAFTING": False,
        "APPLY_TEMPERATURE": False,
        "USE_FP64": fp64,
        "PER_TOKEN_COL": False,
    } | changes


def winners(left: Arguments) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what vLLM does with the kernel's outputs."""
    blocks = left["local_max_ptr"].argmax(dim=-1, keepdim=True)
    token_ids = left["local_argmax_ptr"].gather(-1, blocks).view(-1)
    return token_ids, left["local_max_ptr"].gather(-1, blocks).view(-1)


def check(run_both: Callable[..., Any], given: Arguments) -> tuple[Arguments, Arguments]:
    grid = (given["logits_ptr"].shape[0], -(-given["vocab_size"] // BLOCK))
    expected, ours = run_both(KERNEL, grid, given)
    for name, reference, actual in zip(
        ("token", "score"), winners(expected), winners(ours), strict=True
    ):
        torch.testing.assert_close(
            actual,
            reference,
            rtol=0,
            atol=TOLERANCE[actual.dtype] if name == "score" else 0,
            msg=lambda message, name=name: f"{name}: {message}",
        )
    return expected, ours


@pytest.mark.parametrize(("num_rows", "vocab_size"), [(1, 1), (3, 63), (9, 1000), (2, 2500)])
@pytest.mark.parametrize("apply_temperature", [False, True])
@pytest.mark.parametrize("is_drafting", [False, True])
@pytest.mark.parametrize("fp64", [False, True])
def test_same_token(
    run_both: Callable[..., Any],
    num_rows: int,
    vocab_size: int,
    apply_temperature: bool,
    is_drafting: bool,
    fp64: bool,
) -> None:
    values = logits(generator(vocab_size), num_rows, vocab_size, padding=7)
    check(
        run_both,
        arguments(
            values,
            seed=vocab_size,
            fp64=fp64,
            APPLY_TEMPERATURE=apply_temperature,
            IS_DRAFTING=is_drafting,
        ),
    )


@pytest.mark.parametrize("fp64", [False, True])
def test_same_token_when_noise_decides(run_both: Callable[..., Any], fp64: bool) -> None:
    values = torch.zeros(6, 3000)
    values[3:] = torch.randn(3, 3000, generator=generator(0)) * 0.1
    check(run_both, arguments(values, seed=1, fp64=fp64, temp_ptr=torch.ones(8)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits(run_both: Callable[..., Any], dtype: torch.dtype) -> None:
    values = logits(generator(2), 8, 1000, dtype=dtype, padding=24)
    check(run_both, arguments(values, seed=3))


def test_rows_of_extremes(run_both: Callable[..., Any]) -> None:
    values = logits(generator(4), 6, 1000)
    values[0] = -float("inf")
    values[1, [400, 300]] = float("inf")
    values[2, 999] = 1.0e9
    values[3] = -1.0e30
    values[4, 1:] = -float("inf")
    for temperature in (0.0, 0.7):
        temperatures = torch.full((8,), temperature)
        check(run_both, arguments(values, seed=5, APPLY_TEMPERATURE=True, temp_ptr=temperatures))


def test_rows_without_request_are_greedy(run_both: Callable[..., Any]) -> None:
    values = logits(generator(6), 4, 200)
    slots = torch.tensor([2, -1, 0, -1], dtype=torch.int32)
    given = arguments(values, seed=7, expanded_idx_mapping_ptr=slots, temp_ptr=torch.ones(6))
    _, ours = check(run_both, given)
    assert winners(ours)[0][[1, 3]].tolist() == values[[1, 3]].argmax(-1).tolist()


@pytest.mark.parametrize("per_token", [False, True])
def test_logits_cache(run_both: Callable[..., Any], per_token: bool) -> None:
    values = logits(generator(8), 4, 100, padding=3)
    columns = torch.tensor([2, 0, 1, 2]) if per_token else torch.tensor(1)
    given = arguments(
        values,
        seed=9,
        expanded_idx_mapping_ptr=torch.tensor([4, -1, 0, 2], dtype=torch.int32),
        logits_cache_ptr=poison(6, 3, 128, dtype=torch.bfloat16),
        logits_cache_stride_0=3 * 128,
        logits_cache_stride_1=128,
        logits_cache_col_ptr=columns,
        logits_cache_source_ptr=values.bfloat16().contiguous(),
        logits_cache_source_stride=100,
        PER_TOKEN_COL=per_token,
    )
    expected, ours = check(run_both, given)
    torch.testing.assert_close(
        ours["logits_cache_ptr"], expected["logits_cache_ptr"], rtol=0, atol=0, equal_nan=True
    )


def test_same_token_of_a_full_vocabulary(run_both: Callable[..., Any]) -> None:
    values = torch.randn(2, 49152, generator=generator(11)) * 2
    values[:, 5000:5200] += torch.linspace(0, 9, 200)
    check(run_both, arguments(values, seed=12, temp_ptr=torch.ones(4)))


def test_noise_stays_below_its_ceiling() -> None:
    near_powers = [2**e + d for e in range(33) for d in range(-3, 4) if 0 <= 2**e + d < 2**32]
    drawn = integers(generator(13), 0, 2**32, 20000, dtype=torch.int64).tolist()
    for h in map(np.uint32, near_powers + drawn):
        assert gumbel._noise(h) < gumbel._ceiling(h)
        assert gumbel._noise(h) <= gumbel._HIGHEST_NOISE
        for low in (np.uint32(0), np.uint32(2**32 - 1)):
            assert gumbel._noise_fp64(~h, low) < gumbel._ceiling(h)
            assert gumbel._noise_fp64(~h, low) <= gumbel._HIGHEST_NOISE_FP64


def test_nan_logits_give_a_token_of_the_vocabulary() -> None:
    values = torch.full((3, 1000), float("nan"))
    values[1, :500] = 1.0
    given = arguments(values, seed=10, temp_ptr=torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0]))
    CPU_KERNELS[f"vllm.v1.worker.gpu.{KERNEL}"](*given.values(), grid=(3, 1))
    assert all(0 <= token < 1000 for token in given["local_argmax_ptr"].view(-1).tolist())
