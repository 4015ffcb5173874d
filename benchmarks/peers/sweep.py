"""Curves: a latent step over an explicit one, and its seconds, along one axis; and their slopes.

A step's seconds leave the prompt out: each is a run of so many tokens less one of a single token,
shared out over the steps between. Both runs are made anew for every pair.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from statistics import linear_regression, mean, median
from typing import Any, NamedTuple

from sottovoce_server.smollm2 import smollm2_path

from ..engine import Engine
from ..loads import LATENT, OPTIONS, PROMPT, SAMPLING
from ..pairing import Pair, paired, ratios, report
from ..rows import append
from ..shapes import PROMPT as THINK
from ..shapes import copy_tokenizer

AXES: dict[str, tuple[int, ...]] = {
    "batch": (1, 2, 4, 8, 16, 32, 64),
    "context": (128, 512, 2048, 8000),
    "top_n": (1, 2, 4, 8, 16, 32),
    "vocabulary": (4096, 16384, 49152, 152064),
}
Sides = tuple[Mapping[str, Any], Mapping[str, Any]]  # latent and explicit sampling
_SIDES: Sides = (LATENT, SAMPLING)
_BATCH = 8  # of the other axes
_WORD = " sky"
# Of the axis `top_n`: nothing is filtered but by rank, and the likeliest token leaves mass to others.
_OPEN: dict[str, Any] = {"temperature": 2.0, "top_p": 1.0, "top_k": 32, "min_p": 0.0}
_KEPT = 0.9  # of the terms; special tokens are no terms
# Of the vocabularies: so small that a step's cost is that of its logits.
_RANDOM = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
           "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64}  # fmt: skip


def slope(values: Sequence[float], found: Sequence[float]) -> float:
    """The power of the value that the finding grows with: least squares of their logarithms."""
    return linear_regression([math.log(v) for v in values], [math.log(f) for f in found]).slope


@contextmanager
def random_model(vocab: int) -> Iterator[str]:
    """A folder with a random Llama of that vocabulary, and the tiny reasoner's tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        config = LlamaConfig(vocab_size=vocab, tie_word_embeddings=True, **_RANDOM)
        LlamaForCausalLM(config).save_pretrained(folder)
        copy_tokenizer(folder)
        yield folder


def latent(top_n: int) -> dict[str, Any]:
    """Sampling parameters of a latent request whose steps mix so many terms."""
    routing = {**LATENT["extra_args"]["routing"], "top_n": top_n}
    return {**_OPEN, "extra_args": {**LATENT["extra_args"], "routing": routing}}


def check_terms(engine: Engine, top_n: int, steps: int) -> float:
    """The mean number of terms of such a request's soft steps, as its trace tells.

    Raises:
        RuntimeError: if less than 9 in 10 of them are mixed.
    """
    extra = {**latent(top_n)["extra_args"], "include_reasoning_trace": 1}
    traced = {**latent(top_n), "extra_args": extra, "max_tokens": steps, "ignore_eos": True}
    terms = [n for answer in engine.ask([PROMPT] * _BATCH, traced)[1] for n in answer.num_terms]
    if not terms or mean(terms) < _KEPT * top_n:
        raise RuntimeError(f"top_n {top_n}, but the steps mixed {terms}")
    return mean(terms)


def _step_pairs(
    engine: Engine, prompt: str, batch: int, steps: int, sides: Sides, rounds: int
) -> list[Pair]:
    """Seconds of a latent and of an explicit step."""

    def step(sampling: Mapping[str, Any]) -> float:
        quick = {**sampling, "detokenize": False}
        many, one = (engine.run(prompt, [n] * batch, quick) for n in (steps, 1))
        return (many - one) / (steps - 1)

    return paired(lambda: step(sides[0]), lambda: step(sides[1]), rounds, rest_s=0.0)


def _prompt(num_tokens: int) -> str:
    """About so many tokens."""
    longer = PROMPT.replace("blue.", "blue" + _WORD * (num_tokens - 40) + ".")
    assert longer != PROMPT
    return longer


class Point(NamedTuple):
    """A value of the axis, and what was seen there."""

    value: int
    concurrent: int
    pairs: list[Pair]
    also: dict[str, Any] = {}  # noqa: RUF012 - never changed


def _vocabularies(values: Sequence[int], dtype: str, steps: int, rounds: int) -> Iterator[Point]:
    for value in values:
        with (
            random_model(value) as model,
            closing(Engine("sottovoce", model, dtype=dtype, **OPTIONS)) as engine,
        ):
            yield Point(value, _BATCH, _step_pairs(engine, THINK, _BATCH, steps, _SIDES, rounds))


def _curve(
    axis: str, values: Sequence[int], dtype: str, steps: int, rounds: int
) -> Generator[Point, None, None]:
    if axis == "vocabulary":
        yield from _vocabularies(values, dtype, steps, rounds)
        return
    options = {**OPTIONS, "max_model_len": 8192} if axis == "context" else OPTIONS
    with closing(Engine("sottovoce", str(smollm2_path()), dtype=dtype, **options)) as engine:
        for value in values:
            batch = value if axis == "batch" else 1 if axis == "context" else _BATCH
            prompt = _prompt(value) if axis == "context" else PROMPT
            sides, also = _SIDES, dict[str, Any]()
            if axis == "top_n":
                sides = (latent(value), _OPEN)
                also = {"terms": round(check_terms(engine, value, steps), 2)}
            pairs = _step_pairs(engine, prompt, batch, steps, sides, rounds)
            yield Point(value, batch, pairs, also)


def bench(axis: str, values: Sequence[int] | None, dtype: str, steps: int, rounds: int) -> None:
    """A row for every point of a curve, and one for each of its slopes."""
    values = values or AXES[axis]
    seen: dict[str, list[float]] = {"ratio": [], "latent step": [], "explicit step": []}
    with closing(_curve(axis, values, dtype, steps, rounds)) as points:
        for value, batch, pairs, also in points:
            latent, explicit = (median(side) for side in zip(*pairs, strict=True))
            if min(latent, explicit) <= 0:  # a pause of the machine, longer than all steps
                print(f"{axis} {value}: steps took no time; take more --steps", flush=True)
                continue
            about = {"axis": axis, "value": value, "concurrent": batch, "dtype": dtype}
            report("sweep", {**about, "steps": steps}, "step, latent over explicit", pairs, **also)
            seen["ratio"].append(median(ratios(pairs)))
            seen["latent step"].append(latent)
            seen["explicit step"].append(explicit)
    for name, found in seen.items():
        if len(found) == len(values) > 1 and min(found) > 0:
            about = {"axis": axis, "values": list(values), "dtype": dtype, "steps": steps}
            power = slope(values, found)
            rounded = [round(f, 6) for f in found]
            append("sweep", {**about, "of": name}, "power of the axis", "", [power], found=rounded)
            print(f"{axis}: {name} grows with its power {power:.3f}", flush=True)
