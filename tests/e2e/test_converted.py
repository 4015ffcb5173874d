"""Converted checkpoints think in the engine as their wrappers do in transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from e2e import latent_models
from e2e.engine import Engines
from e2e.latent_models import Latent
from e2e.latent_runs import Asked, follow
from server.checkpoints import (
    SCALE,
    Tensors,
    adapted,
    coconut,
    codi,
    decoder,
    save,
    save_shards,
)
from sottovoce_server.convert import main

START, END = "<|start-latent|>", "<|end-latent|>"
OPTIONS: dict[str, Any] = {
    "max_logprobs": -1, "max_model_len": 256, "reasoning_parser": "",
    "reasoning_config": {"reasoning_start_str": START, "reasoning_end_str": END},
}  # fmt: skip
QUESTIONS = ("Why is the sky blue?", "List three primes.", "What is 7 times 8?")
LAYERS = {"hidden": "1", "out": "3", "norm": "ln"}


@dataclass(frozen=True)
class Kind:
    """A published layout: its method, its model's family, how it is saved, and SIM-CoT's part."""

    method: str
    family: Callable[[Path, str], Latent]
    file: Callable[[Tensors, Path], Path] = save
    decoder: str = ""  # the prefix of an auxiliary decoder


KINDS = {
    "codi-gpt2": Kind("codi", latent_models.gpt2),
    "codi-llama": Kind(
        "codi", latent_models.llama, lambda tensors, to: save(tensors, to, "pytorch_model.bin")
    ),
    "coconut-gpt2": Kind(
        "coconut", latent_models.gpt2, lambda tensors, to: save(tensors, to, "checkpoint_28")
    ),
    "sim-cot-codi-gpt2": Kind("codi", latent_models.gpt2, decoder="decoder."),
    "sim-cot-coconut-llama-shards": Kind(
        "coconut",
        latent_models.llama,
        lambda tensors, to: save_shards(tensors, to, "safetensors", 3, is_indexed=True),
        "expainable_llm.",
    ),
}


class Converted(Latent):
    """The directory, held to the model that it was made from, its adapters beside it."""

    def __init__(self, path: Path, method: str, original: Any, head: Tensors) -> None:
        super().__init__(path, method)
        self.end = self.tokenizer.convert_tokens_to_ids(END)
        # What would be read from the directory.
        self.__dict__ |= {"_model": original, "_weights": head}


def lengthened(base: Path) -> Any:
    """The base with three more rows, those of other markers."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    table = model.get_input_embeddings().weight.detach()
    model.resize_token_embeddings(len(table) + 3, mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[-3:] = table[[1, 3, 4]]
    return model


@torch.no_grad()
def wrapped(model: Any, head: Tensors) -> tuple[Tensors, Any]:
    """CODI's state dict, and its model: the adapters give the weights back what they lack."""
    tensors, adapters = codi(model)
    for name, down in adapters.items():
        if ".lora_A." in name:
            module = model.get_submodule(name.partition(".lora_A.")[0])
            change = SCALE * (adapters[name.replace(".lora_A.", ".lora_B.")] @ down)
            module.weight -= change.T if isinstance(module, Conv1D) else change
    for name, tensor in head.items():
        _, layer, kind = name.split(".")
        tensors[f"prj.{LAYERS[layer]}.{kind}"] = tensor
    return tensors, adapted(model, adapters)


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    kind, root = KINDS[request.param], tmp_path_factory.mktemp("converted")
    base = kind.family(root, "codi").path
    torch.manual_seed(0)
    original, head = lengthened(base), Tensors()
    if kind.method == "codi":
        head = load_file(base / "latent" / "head.safetensors")
        tensors, original = wrapped(original, head)
    else:
        tensors = coconut(original)
    if kind.decoder:
        tensors |= decoder(original, kind.decoder)
    source, target = kind.file(tensors, root / "source"), root / "target"
    main([str(source), str(target), "--base", str(base), "--steps", "4"])
    return Converted(target, kind.method, original, head)


def test_a_converted_model_is_the_references(engines: Engines, model: Converted) -> None:
    """With as many steps as it says, and with others."""
    asked = [Asked(model.prompt(question)) for question in QUESTIONS]
    asked.append(Asked(asked[0].prompt, 6))
    engine = engines.start(model.path, **OPTIONS)
    results = engine.run([a.as_prompt(arrives=i) for i, a in enumerate(asked)]).results
    taken = [follow(model, a, r.only) for a, r in zip(asked, results, strict=True)]
    assert taken == [4, 4, 4, 6]
