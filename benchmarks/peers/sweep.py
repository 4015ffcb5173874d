"""Curves: a latent step over an explicit one, and its seconds, along one axis; and their slopes."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import linear_regression, median
from typing import Any

from sottovoce_server.models import MODELS
from sottovoce_server.smollm2 import smollm2_path

from ..engine import Engine
from ..loads import LATENT, OPTIONS, PROMPT, SAMPLING
from ..pairing import Pair, paired, ratios, report
from ..rows import append

AXES: dict[str, tuple[int, ...]] = {
    "batch": (1, 2, 4, 8, 16, 32, 64),
    "context": (128, 512, 2048, 8000),
    "top_n": (1, 2, 4, 8, 16, 32),
    "vocabulary": (4096, 16384, 49152, 152064),
}
_BATCH = 8  # of the other axes
_WORD = " sky"
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

    source = MODELS["tiny-reasoner"].path()
    with tempfile.TemporaryDirectory() as folder:
        config = LlamaConfig(vocab_size=vocab, tie_word_embeddings=True, **_RANDOM)
        LlamaForCausalLM(config).save_pretrained(folder)
        for path in source.glob("*token*"):
            shutil.copy(path, folder)
        yield folder


def latent(top_n: int) -> dict[str, Any]:
    """Sampling parameters of a latent request that mixes so many."""
    routing = {**LATENT["extra_args"]["routing"], "top_n": top_n}
    return {**LATENT, "top_k": 32, "extra_args": {**LATENT["extra_args"], "routing": routing}}


def _pairs(
    engine: Engine, prompt: str, batch: int, steps: int, top_n: int, rounds: int
) -> list[Pair]:
    """Seconds of latent and explicit requests, whose prompt is cached from the second run on."""
    lengths = [steps] * batch
    return paired(
        lambda: engine.run(prompt, lengths, {**latent(top_n), "detokenize": False}),
        lambda: engine.run(prompt, lengths, {**SAMPLING, "detokenize": False}),
        rounds,
        rest_s=0.0,
    )


def _prompt(num_tokens: int) -> str:
    """About so many tokens."""
    longer = PROMPT.replace("blue.", "blue" + _WORD * (num_tokens - 40) + ".")
    assert longer != PROMPT
    return longer


def _curve(
    axis: str, values: Sequence[int], dtype: str, steps: int, rounds: int
) -> Iterator[tuple[int, int, list[Pair]]]:
    """Each value, how many requests there were, and their seconds."""
    if axis == "vocabulary":
        for value in values:
            with random_model(value) as model:
                engine = Engine("sottovoce", model, dtype=dtype, **OPTIONS)
                yield value, _BATCH, _pairs(engine, "<think>", _BATCH, steps, 10, rounds)
                engine.close()
        return
    options = {**OPTIONS, "max_model_len": 8192} if axis == "context" else OPTIONS
    engine = Engine("sottovoce", str(smollm2_path()), dtype=dtype, **options)
    for value in values:
        batch = value if axis == "batch" else 1 if axis == "context" else _BATCH
        prompt = _prompt(value) if axis == "context" else PROMPT
        top_n = value if axis == "top_n" else 10
        yield value, batch, _pairs(engine, prompt, batch, steps, top_n, rounds)
    engine.close()


def bench(axis: str, values: Sequence[int] | None, dtype: str, steps: int, rounds: int) -> None:
    """A row for every point of a curve, and one for its slopes."""
    values = values or AXES[axis]
    seen: dict[str, list[float]] = {"ratio": [], "latent step": [], "explicit step": []}
    for value, batch, pairs in _curve(axis, values, dtype, steps, rounds):
        about = {"axis": axis, "value": value, "concurrent": batch, "dtype": dtype, "steps": steps}
        report("sweep", about, "step, latent over explicit", pairs)
        seen["ratio"].append(median(ratios(pairs)))
        for name, side in zip(
            ("latent step", "explicit step"), zip(*pairs, strict=True), strict=True
        ):
            seen[name].append(median(side) / steps)
    if len(values) < 2:
        return
    for name, found in seen.items():
        about = {"axis": axis, "values": list(values), "dtype": dtype, "of": name}
        power = slope(values, found)
        append("sweep", about, "power of the axis", "", [power], found=[round(f, 6) for f in found])
        print(f"{axis}: {name} grows with its power {power:.3f}")
