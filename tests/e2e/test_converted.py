"""A converted CODI checkpoint thinks in the engine as its wrapper does in transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from e2e import latent_models
from e2e.engine import Engines
from e2e.latent_models import Latent
from e2e.latent_runs import Asked, follow
from server.checkpoints import SCALE, adapted, codi, save
from sottovoce_server.convert import main

START, END = "<|start-latent|>", "<|end-latent|>"
OPTIONS: dict[str, Any] = {
    "max_logprobs": -1, "reasoning_parser": "",
    "reasoning_config": {"reasoning_start_str": START, "reasoning_end_str": END},
}  # fmt: skip
QUESTIONS = ("Why is the sky blue?", "List three primes.", "What is 7 times 8?")
LAYERS = {"hidden": "1", "out": "3", "norm": "ln"}


class Converted(Latent):
    """The directory, held to the model that it was made from, its adapters beside it."""

    def __init__(self, path: Path, original: Any, head: dict[str, torch.Tensor]) -> None:
        super().__init__(path, "codi")
        self.end = self.tokenizer.convert_tokens_to_ids(END)
        # What would be read from the directory.
        self.__dict__ |= {"_model": original, "_weights": head}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """Three more rows, those of other markers; the adapters give the base back what it lacks."""
    root = tmp_path_factory.mktemp("converted")
    base = latent_models.gpt2(root, "codi").path
    original = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    rows = original.get_input_embeddings().weight.detach()
    original.resize_token_embeddings(len(rows) + 3, mean_resizing=False)
    torch.manual_seed(0)
    with torch.no_grad():
        original.get_input_embeddings().weight[-3:] = rows[[1, 3, 4]]
        tensors, adapters = codi(original)
        for name, down in adapters.items():
            if ".lora_A." in name:
                up = adapters[name.replace(".lora_A.", ".lora_B.")]
                original.get_submodule(name.partition(".lora_A.")[0]).weight -= (
                    SCALE * (up @ down).T
                )
    head = load_file(base / "latent" / "head.safetensors")
    for name, tensor in head.items():
        _, layer, kind = name.split(".")
        tensors[f"prj.{LAYERS[layer]}.{kind}"] = tensor
    source, target = save(tensors, root / "source"), root / "target"
    main([str(source), str(target), "--base", str(base), "--steps", "4"])
    return Converted(target, adapted(original, adapters), head)


def test_a_converted_model_is_the_references(engines: Engines, model: Converted) -> None:
    """With as many steps as it says, and with others."""
    asked = [Asked(model.prompt(question)) for question in QUESTIONS]
    asked.append(Asked(asked[0].prompt, 6))
    engine = engines.start(model.path, **OPTIONS)
    results = engine.run([a.as_prompt(arrives=i) for i, a in enumerate(asked)]).results
    taken = [follow(model, a, r.only) for a, r in zip(asked, results, strict=True)]
    assert taken == [4, 4, 4, 6]
