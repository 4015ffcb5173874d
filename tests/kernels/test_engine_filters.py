"""Top-k and top-p against vLLM's sort-based version."""

from collections.abc import Callable

import pytest
import torch
from engine_scenes import generator
from interpreter import Interpreter

from sottovoce_kernels.engine import apply_top_k_top_p

Reference = Callable[[torch.Tensor, torch.Tensor | None, torch.Tensor | None], torch.Tensor]
# vLLM adds probabilities up in float32, in another order than we do.
MASS_TOLERANCE = 1e-5


@pytest.fixture
def reference(interpreter: Interpreter) -> Reference:
    def call(values: torch.Tensor, k: torch.Tensor | None, p: torch.Tensor | None) -> torch.Tensor:
        name = "vllm.v1.sample.ops.topk_topp_sampler.apply_top_k_top_p_pytorch"
        result: torch.Tensor = interpreter.call(name, values, k, p)
        return result

    return call


def kept(values: torch.Tensor) -> list[list[float]]:
    """List each row's surviving logits in order: which of equal logits survive is not specified."""
    return [row[row > -float("inf")].sort().values.tolist() for row in values]


def margin(values: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """How far, in mass, each row's nucleus is from losing or gaining a token."""
    mass = values.double().softmax(-1).sort(descending=True).values.cumsum(-1)
    return (mass - p.double().unsqueeze(1)).abs().min(dim=-1).values


def rows(num_rows: int, vocab_size: int, scale: float, rounded: bool) -> torch.Tensor:
    values = torch.randn(num_rows, vocab_size, generator=generator(vocab_size)) * scale
    values[:, 1::7] = -float("inf")
    return values.round() if rounded else values


@pytest.mark.parametrize("vocab_size", [1, 2, 63, 1000, 8000])
@pytest.mark.parametrize("scale", [0.5, 3.0])
@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("with_k", [False, True])
@pytest.mark.parametrize("with_p", [False, True])
def test_same_tokens_survive(
    reference: Reference, vocab_size: int, scale: float, rounded: bool, with_k: bool, with_p: bool
) -> None:
    ks = [k for k in (1, 5, 50, 400, vocab_size) if k <= vocab_size]
    ps = [0.001, 0.3, 0.9, 0.999, 1.0]
    pairs = [(k, p) for k in ks for p in ps]
    values = rows(len(pairs), vocab_size, scale, rounded)
    k = torch.tensor([k for k, _ in pairs], dtype=torch.int32) if with_k else None
    p = torch.tensor([p for _, p in pairs]) if with_p else None
    expected = reference(values.clone(), k, p) if with_k or with_p else values
    ours = values.clone()
    assert apply_top_k_top_p(ours, k, p) is ours
    in_top_k = values if k is None else reference(values.clone(), k, None)
    edge = torch.full((len(pairs),), 1.0) if p is None else margin(in_top_k, p)
    for row, (a, b) in enumerate(zip(kept(ours), kept(expected), strict=True)):
        if a != b:
            assert edge[row] < MASS_TOLERANCE, f"{pairs[row]}: {len(a)} for {len(b)} survivors"
            assert abs(len(a) - len(b)) <= 1
        survived = ours[row] > -float("inf")
        assert torch.equal(ours[row][survived], values[row][survived])


def test_ties_at_the_threshold_are_kept_by_top_k() -> None:
    values = torch.tensor([[3.0, 1.0, 2.0, 2.0, 2.0, 0.0]])
    apply_top_k_top_p(values, torch.tensor([2], dtype=torch.int32), None)
    assert kept(values) == [[2.0, 2.0, 2.0, 3.0]]


def test_one_token_survives_a_tiny_nucleus() -> None:
    values = torch.zeros(2, 100)
    apply_top_k_top_p(values, None, torch.tensor([1e-6, 0.5]))
    assert [len(row) for row in kept(values)] == [1, 50]


def test_few_finite_logits(reference: Reference) -> None:
    values = torch.full((3, 5000), -float("inf"))
    values[0, 7::600] = torch.arange(9.0)
    values[1, 3] = 1.0
    values[2, ::60] = torch.arange(84.0) % 5
    k = torch.full((3,), 50, dtype=torch.int32)
    for p in (None, torch.full((3,), 0.9)):
        expected = reference(values.clone(), k, p)
        assert kept(apply_top_k_top_p(values.clone(), k, p)) == kept(expected)


@pytest.mark.parametrize("sign", [1.0, -1.0])  # x86 makes NaNs with the sign bit set
@pytest.mark.parametrize("num_nans", [1, 4000, 5000])
def test_rows_with_nans_keep_a_token(sign: float, num_nans: int) -> None:
    values = torch.randn(4, 5000, generator=generator(0))
    values[:, :num_nans] = torch.copysign(torch.tensor(float("nan")), torch.tensor(sign))
    k = torch.tensor([1, 50, 3000, 5000], dtype=torch.int32)
    for p in (None, torch.full((4,), 0.9)):
        masked = apply_top_k_top_p(values.clone(), k, p)
        assert bool((masked != -float("inf")).any(dim=1).all())


def test_strided_rows_keep_their_padding() -> None:
    memory = torch.full((3, 1003), 7.0)
    values = memory[:, :1000]
    values.copy_(rows(3, 1000, 3.0, False))
    expected = apply_top_k_top_p(values.clone(), torch.full((3,), 9), torch.full((3,), 0.8))
    apply_top_k_top_p(values, torch.full((3,), 9), torch.full((3,), 0.8))
    assert torch.equal(values, expected)
    assert bool((memory[:, 1000:] == 7.0).all())


def test_rows_without_limits_and_without_tokens_are_left_alone() -> None:
    values = rows(3, 100, 3.0, False)
    values[1] = -float("inf")
    before = values.clone()
    k = torch.tensor([100, 3, 100], dtype=torch.int32)
    apply_top_k_top_p(values, k, torch.tensor([1.0, 0.5, 1.0]))
    assert torch.equal(values, before)
