"""The curves: what a step takes without its prompt, and with as many terms as the axis says."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from benchmarks.loads import LATENT
from benchmarks.peers import sweep

from bench.fake_engine import FakeEngine, install
from sottovoce_kernels.layout import (
    MAX_TOP_N,
    NUM_FLOAT_PARAMS,
    NUM_INT_PARAMS,
    FloatParam,
    IntParam,
    Slots,
)
from sottovoce_kernels.reference_policies import mixture_weights


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine is started."""
    install(monkeypatch, sweep)


def test_slopes_are_powers() -> None:
    assert sweep.slope([1, 2, 4, 8], [3.0, 6.0, 12.0, 24.0]) == pytest.approx(1.0)
    assert sweep.slope([1, 4, 16], [5.0, 5.0, 5.0]) == pytest.approx(0.0)
    assert sweep.slope([1, 4], [1.0, 2.0]) == pytest.approx(0.5)


def test_a_curve_has_a_row_a_point_and_its_slopes(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = []

    def keep(name: str, about: Any, *row: Any, **also: Any) -> None:
        rows.append((about.get("value", about.get("of")), row[-1], also))

    monkeypatch.setattr(sweep, "report", keep)
    monkeypatch.setattr(sweep, "append", keep)
    sweep.bench("top_n", [1, 10], "float32", 8, 2)
    (one, first, told), (ten, second, _), (ratio, (power,), _), _, (explicit, (flat,), _) = rows
    assert (one, ten, ratio, explicit) == (1, 10, "ratio", "explicit step")
    assert told == {"terms": 1.0}
    # Seconds of a step, without the prompt's.
    assert first == [pytest.approx((2e-3 * 1.01, 2e-3))] * 2
    assert second == [pytest.approx((2e-3 * 1.1, 2e-3))] * 2
    assert power == pytest.approx(math.log(1.1 / 1.01) / math.log(10))
    assert flat == pytest.approx(0.0)
    assert not FakeEngine.running


def test_no_time_is_no_point(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[Any] = []
    monkeypatch.setattr(sweep, "report", lambda *row, **_: rows.append(row))
    monkeypatch.setattr(sweep, "append", lambda *row, **_: rows.append(row))
    monkeypatch.setattr(FakeEngine, "run", lambda self, _, lengths, __: 5.0 / lengths[0])
    sweep.bench("batch", [1, 2], "float32", 8, 1)
    assert rows == []
    assert capsys.readouterr().out.count("take more --steps") == 2


def test_both_sides_of_top_n_are_sampled_alike_and_nothing_cuts_the_terms() -> None:
    sweep.bench("top_n", [32], "float32", 8, 1)
    asked = [sampling for *_, sampling in FakeEngine.asked]
    drawn = [{k: s[k] for k in ("temperature", "top_k", "top_p", "min_p")} for s in asked]
    assert drawn == [{"temperature": 2.0, "top_k": 32, "top_p": 1.0, "min_p": 0.0}] * 8
    assert sum("extra_args" in s for s in asked) == 4


def test_a_mixture_of_too_few_terms_is_no_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeEngine, "num_mixed", 20)
    with pytest.raises(RuntimeError, match="top_n 32"):
        sweep.bench("top_n", [16, 32], "float32", 8, 1)
    assert not FakeEngine.running


@pytest.mark.parametrize("top_n", [1, 2, 4, 8, 16, 32])
def test_the_router_mixes_as_many_terms_as_the_axis_says(top_n: int) -> None:
    """The kernels' reference, on logits far apart, with what the axis samples with."""
    torch.manual_seed(0)
    logits = 2.5 * torch.randn(49152)
    logits[7] = logits.max() + 6

    def num_terms(sampling: dict[str, Any]) -> int:
        ints, floats = torch.zeros(1, NUM_INT_PARAMS).int(), torch.zeros(1, NUM_FLOAT_PARAMS)
        ints[0, IntParam.TOP_K], ints[0, IntParam.TOP_N] = sampling["top_k"], top_n
        ints[0, IntParam.VECTOR_ROW] = -1
        for name in ("TEMPERATURE", "TOP_P", "MIN_P"):
            floats[0, FloatParam[name]] = sampling[name.lower()]
        top = logits.topk(MAX_TOP_N).values
        mass = float(((logits - top[0]) / sampling["temperature"]).exp().sum())
        slots = Slots(ints, floats, torch.zeros(1, 1).int(), torch.zeros(1, 1).int())
        weights = mixture_weights(top, mass, slots, 0, torch.zeros(MAX_TOP_N, dtype=torch.bool))
        return int((weights > 0).sum())

    assert num_terms(sweep.latent(top_n)) == top_n
    assert num_terms(LATENT) == 1, "as users sample, one term takes all"


def test_a_context_grows_by_its_prompt() -> None:
    sweep.bench("context", [128, 512, 2048], "float32", 8, 1)
    lengths = {len(prompt.split()): None for _, prompt, *_ in FakeEngine.asked}
    assert list(lengths) == sorted(lengths)
    assert [later - sooner for sooner, later in itertools.pairwise(lengths)] == [384, 1536]
