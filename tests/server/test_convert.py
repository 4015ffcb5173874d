"""`sottovoce convert`: what is written computes what the checkpoint did."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from server.checkpoints import (
    CODI,
    EOS,
    SCALE,
    VOCAB,
    WIDTH,
    Tensors,
    adapted,
    coconut,
    codi,
    decoder,
    logits,
    random_model,
    save,
    save_shards,
    write_base,
)
from sottovoce_router.latent.manifest import Manifest, read_manifest
from sottovoce_server.convert import main
from sottovoce_training.shortcuts.modules import Feedback

FAMILIES = ("gpt2", "llama")
FILES: dict[str, Callable[[Tensors, Path], Path]] = {
    "safetensors": save,
    "bin": lambda tensors, folder: save(tensors, folder, "pytorch_model.bin"),
    "shards": lambda tensors, folder: save_shards(tensors, folder, "safetensors", 3, True),
    "bin shards": lambda tensors, folder: save_shards(tensors, folder, "bin", 2, True),
    "no index": lambda tensors, folder: save_shards(tensors, folder, "safetensors", 1, False),
}
TURNS = [{"role": "user", "content": " How many? "}]


def converted(source: Path, base: Path, *flags: str) -> Path:
    target = source.parent / "made" / "model"
    main([str(source), str(target), "--base", str(base), *flags])
    return target


def load(target: Path) -> Any:
    model, info = AutoModelForCausalLM.from_pretrained(target, output_loading_info=True)
    assert not any(info.values()), info
    return model


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("file", FILES)
def test_codi_is_its_model_with_adapters(family: str, file: str, tmp_path: Path) -> None:
    model = random_model(family)
    tensors, adapters = codi(model)
    base = write_base(tmp_path / "base", family)
    target = converted(FILES[file](tensors, tmp_path / "source"), base)
    without = logits(model)
    expected = logits(adapted(model, adapters))
    assert (without - expected).abs().max() > 0.5
    torch.testing.assert_close(logits(load(target)), expected, atol=1e-4, rtol=1e-4)


def test_weights_get_the_dtype_of_the_base(tmp_path: Path) -> None:
    """Merged in float32 first."""
    tensors, adapters = codi(random_model("llama").bfloat16())
    base = write_base(tmp_path / "base", "llama", dtype="bfloat16")
    made = load_file(converted(save(tensors, tmp_path / "source"), base) / "model.safetensors")
    assert {tensor.dtype for tensor in made.values()} == {torch.bfloat16}
    name = "model.layers.1.mlp.up_proj"
    a, b = (adapters[f"{name}.lora_{half}.default.weight"] for half in "AB")
    weight = tensors[f"{CODI}{name}.base_layer.weight"].float()
    assert torch.equal(made[f"{name}.weight"], (weight + SCALE * (b @ a)).bfloat16())


def test_another_alpha_scales_the_adapters(tmp_path: Path) -> None:
    model = random_model("gpt2")
    tensors, adapters = codi(model)
    base = write_base(tmp_path / "base", "gpt2")
    target = converted(save(tensors, tmp_path / "source"), base, "--lora-alpha", "64")
    doubled = {n: 2 * t if ".lora_B." in n else t for n, t in adapters.items()}
    expected = logits(adapted(model, doubled))
    torch.testing.assert_close(logits(load(target)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_codi_without_adapters(family: str, tmp_path: Path) -> None:
    """Neither LoRA nor PEFT's wrapper."""
    model = random_model(family)
    head = {n: t for n, t in codi(model)[0].items() if n.startswith("prj.")}
    tensors = {f"codi.{n}": t for n, t in model.state_dict().items()} | head
    base = write_base(tmp_path / "base", family)
    target = converted(save(tensors, tmp_path / "source"), base)
    assert torch.equal(logits(load(target)), logits(model))


@pytest.mark.parametrize("family", FAMILIES)
def test_projection(family: str, tmp_path: Path) -> None:
    """The head is training's, and computes what CODI's own Sequential does."""
    tensors, _ = codi(random_model(family))
    base = write_base(tmp_path / "base", family)
    target = converted(save(tensors, tmp_path / "source"), base)
    theirs = torch.nn.Sequential(
        torch.nn.Dropout(0.0), torch.nn.Linear(WIDTH, WIDTH), torch.nn.GELU(),
        torch.nn.Linear(WIDTH, WIDTH),
    )  # fmt: skip
    theirs.add_module("ln", torch.nn.LayerNorm(WIDTH))
    theirs.load_state_dict(
        {n.removeprefix("prj."): t for n, t in tensors.items() if n.startswith("prj.")}
    )
    found = load_file(target / "latent" / "head.safetensors")
    ours = Feedback(WIDTH, 1.0)
    ours.load_state_dict({n.removeprefix("projection."): t for n, t in found.items()})
    state = torch.randn(3, WIDTH)
    assert torch.equal(ours(state), theirs(state))


@pytest.mark.parametrize("family", FAMILIES)
def test_codi_markers_and_prompt(family: str, tmp_path: Path) -> None:
    """Pad, start and end are the three rows; a prompt is the question and the start."""
    tensors, _ = codi(random_model(family))
    base = write_base(tmp_path / "base", family)
    target = converted(save(tensors, tmp_path / "source"), base)
    tokenizer = AutoTokenizer.from_pretrained(target)
    names = ["[PAD]", "<|start-latent|>", "<|end-latent|>"]
    assert tokenizer.convert_tokens_to_ids(names) == [VOCAB, VOCAB + 1, VOCAB + 2]
    assert tokenizer.pad_token_id == VOCAB
    assert tokenizer.decode([VOCAB + 1, VOCAB + 2], skip_special_tokens=True) == ""
    prompt = tokenizer.apply_chat_template(TURNS, add_generation_prompt=True, tokenize=False)
    opening = EOS if family == "llama" else ""
    assert prompt == f"{opening}How many?<|start-latent|>"
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    assert ids == [*tokenizer("How many?").input_ids, VOCAB + 1]
    assert read_manifest(str(target)) == Manifest(
        "codi", 6, None, 64, WIDTH, "<|start-latent|>", "<|end-latent|>"
    )


def test_several_messages_are_lines(tmp_path: Path) -> None:
    tensors, _ = codi(random_model("gpt2"))
    target = converted(save(tensors, tmp_path / "source"), write_base(tmp_path / "base", "gpt2"))
    tokenizer = AutoTokenizer.from_pretrained(target)
    turns = [{"role": "system", "content": "Be {{ brief }}."}, *TURNS]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == "Be {{ brief }}.\nHow many?"


@pytest.mark.parametrize("family", FAMILIES)
def test_sim_cots_decoder_is_dropped(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = random_model(family)
    tensors, adapters = codi(model)
    extra = decoder(model, "decoder.")
    projections = {"pj_in.weight": torch.zeros(2), "pj_out.U": torch.zeros(2)}
    base = write_base(tmp_path / "base", family)
    target = converted(save(tensors | extra | projections, tmp_path / "source"), base)
    said = capsys.readouterr().out
    assert f"dropped {len(extra)} tensors of decoder.*: SIM-CoT's auxiliary decoder" in said
    assert "dropped 1 tensors of pj_in.*" in said
    assert "dropped 1 tensors of pj_out.*" in said
    expected = logits(adapted(model, adapters))
    torch.testing.assert_close(logits(load(target)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("is_tied_in_base", [True, False])
def test_an_output_matrix_of_its_own_stays(is_tied_in_base: bool, tmp_path: Path) -> None:
    """The tensors decide, whatever the base's configuration says."""
    model = random_model("llama", tie_word_embeddings=False)
    tensors, adapters = codi(model)
    base = write_base(tmp_path / "base", "llama", tie_word_embeddings=is_tied_in_base)
    target = converted(save(tensors, tmp_path / "source"), base)
    assert "lm_head.weight" in load_file(target / "model.safetensors")
    expected = logits(adapted(model, adapters))
    torch.testing.assert_close(logits(load(target)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("left_out", ["lm_head", "model.embed_tokens"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_tied_matrix_has_one_name_or_two(family: str, left_out: str, tmp_path: Path) -> None:
    """Two in the other tests."""
    model = random_model(family)
    tensors, adapters = codi(model)
    if family == "gpt2":
        left_out = left_out.replace("model.embed_tokens", "transformer.wte")
    del tensors[f"{CODI}{left_out}.weight"]
    base = write_base(tmp_path / "base", family)
    target = converted(save(tensors, tmp_path / "source"), base)
    assert "lm_head.weight" not in load_file(target / "model.safetensors")
    expected = logits(adapted(model, adapters))
    torch.testing.assert_close(logits(load(target)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("is_sim_cot", [False, True])
def test_coconut(family: str, is_sim_cot: bool, tmp_path: Path) -> None:
    """A bare file of torch's; SIM-CoT's has its decoder in it and more latents."""
    model = random_model(family)
    extra = decoder(model, "expainable_llm.") if is_sim_cot else {}
    source = save(coconut(model) | extra, tmp_path / "source", "checkpoint_28")
    target = converted(source, write_base(tmp_path / "base", family))
    assert torch.equal(logits(load(target)), logits(model))
    assert read_manifest(str(target)) == Manifest(
        "coconut", 10 if is_sim_cot else 6, None, 64, WIDTH, "<|start-latent|>", "<|end-latent|>"
    )
    assert sorted(p.name for p in (target / "latent").iterdir()) == ["manifest.json"]
    tokenizer = AutoTokenizer.from_pretrained(target)
    names = ["<|start-latent|>", "<|end-latent|>", "<|latent|>"]
    assert tokenizer.convert_tokens_to_ids(names) == [VOCAB, VOCAB + 1, VOCAB + 2]
    prompt = tokenizer.apply_chat_template(TURNS, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    assert ids == [*tokenizer("How many?\n").input_ids, VOCAB]


def test_a_file_is_given_and_older_buffers_are_left_out(tmp_path: Path) -> None:
    model = random_model("gpt2")
    old = {"base_causallm.transformer.h.0.attn.bias": torch.ones(1, 1, 64, 64)}
    save(coconut(model) | old, tmp_path / "source", "checkpoint_1")
    source = save(coconut(random_model("gpt2", 1)), tmp_path / "source", "checkpoint_2")
    target = converted(source / "checkpoint_1", write_base(tmp_path / "base", "gpt2"))
    assert torch.equal(logits(load(target)), logits(model))


def test_steps_and_ends(tmp_path: Path) -> None:
    source = save(codi(random_model("llama"))[0], tmp_path / "source")
    target = converted(source, write_base(tmp_path / "base", "llama"), "--steps", "3")
    manifest = read_manifest(str(target))
    assert manifest is not None
    assert (manifest.steps, manifest.max_steps) == (3, 64)
    ids = json.loads((target / "generation_config.json").read_text())
    assert ids == {"eos_token_id": [0, 1], "pad_token_id": VOCAB}


def test_the_checkpoints_own_folder_is_a_base(tmp_path: Path) -> None:
    """If it has a configuration, be it of the longer vocabulary, and a tokenizer with the pad."""
    model = random_model("gpt2")
    source = save(coconut(model), tmp_path / "source", "checkpoint_1")
    write_base(source, "gpt2", vocab_size=VOCAB + 3)
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens(["<|start-latent|>"])
    tokenizer.save_pretrained(source)
    main([str(source), str(tmp_path / "model")])
    assert torch.equal(logits(load(tmp_path / "model")), logits(model))
