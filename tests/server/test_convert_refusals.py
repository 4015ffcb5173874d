"""`sottovoce convert`: what does not fit is refused by its name, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from server.checkpoints import (
    CODI,
    VOCAB,
    Tensors,
    coconut,
    codi,
    random_model,
    save,
    save_shards,
    write_base,
)
from sottovoce_server.convert import main

H0 = f"{CODI}transformer.h.0."
Change = Callable[[Tensors], object]


def refused(*arguments: object) -> str:
    """The message of a conversion that fails."""
    with pytest.raises(SystemExit) as raised:
        main([str(argument) for argument in arguments])
    message = str(raised.value.code)
    assert message.startswith("sottovoce convert: ")
    return message


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base", "gpt2")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(codi(random_model("gpt2"))[0], tmp_path / "source")


def renamed(old: str, new: str) -> Change:
    return lambda tensors: tensors.update({new: tensors.pop(old)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(f"{H0}ln_2.bias"), f"the checkpoint lacks {H0}ln_2.bias"),
        (
            lambda t: t.pop(f"{H0}mlp.c_fc.base_layer.bias"),
            f"the checkpoint lacks {H0}mlp.c_fc.bias",
        ),
        (
            lambda t: t.update({f"{H0}ln_3.bias": torch.ones(16)}),
            f"the model has no place for {H0}ln_3.bias",
        ),
        (
            renamed(f"{H0}ln_2.bias", f"{H0}ln_2.lora_A.other.weight"),
            f"the checkpoint lacks {H0}ln_2.bias",
        ),
        (
            lambda t: t.update({f"{H0}ln_2.bias": torch.ones(17)}),
            f"{H0}ln_2.bias is (17,), not (16,); is this the base",
        ),
        (
            lambda t: t.pop(f"{H0}attn.c_attn.lora_B.default.weight"),
            "transformer.h.0.attn.c_attn lacks its lora_B",
        ),
        (
            lambda t: t.update({f"{H0}attn.c_attn.lora_B.default.weight": torch.ones(47, 128)}),
            "transformer.h.0.attn.c_attn: {'lora_A': (128, 16), 'lora_B': (47, 128)} do not fit",
        ),
        (
            lambda t: t.update({f"{H0}attn.c_attn.lora_B.default.weight": torch.ones(48, 127)}),
            "'lora_B': (48, 127)} do not fit its weight, (16, 48)",
        ),
        (
            lambda t: t.pop(f"{H0}attn.c_attn.base_layer.weight"),
            "do not fit its weight, None",
        ),
        (lambda t: t.pop("prj.ln.bias"), "the checkpoint lacks prj.ln.bias"),
        (renamed("prj.3.bias", "prj.2.bias"), "the checkpoint lacks prj.3.bias"),
        (
            lambda t: t.update({"prj.4.bias": torch.ones(16)}),
            "the model has no place for prj.4.bias",
        ),
        (
            lambda t: t.update({"prj.1.weight": torch.ones(32, 16)}),
            "prj.1.weight is (32, 16), not (16, 16)",
        ),
        (
            lambda t: t.update({"other.weight": torch.ones(1)}),
            "tensors that this layout does not have: other.weight",
        ),
        (
            lambda t: t.update({f"{CODI}transformer.wte.weight": torch.ones(VOCAB + 2, 16)}),
            f"{VOCAB + 2} rows, 3 of them added, and the base's {VOCAB}; give --base the model",
        ),
    ],
)
def test_a_tensor_that_does_not_fit(
    change: Change, message: str, base: Path, tmp_path: Path
) -> None:
    tensors, _ = codi(random_model("gpt2"))
    del tensors[f"{CODI}lm_head.weight"]
    change(tensors)
    source = save(tensors, tmp_path / "changed")
    assert message in refused(source, tmp_path / "made" / "model", "--base", base)
    assert not (tmp_path / "made").exists()


def test_an_output_matrix_is_missing(tmp_path: Path) -> None:
    tensors, _ = codi(random_model("llama", tie_word_embeddings=False))
    del tensors[f"{CODI}lm_head.weight"]
    base = write_base(tmp_path / "base", "llama", tie_word_embeddings=False)
    source = save(tensors, tmp_path / "source")
    assert f"lacks {CODI}lm_head.weight" in refused(source, tmp_path / "model", "--base", base)


def test_a_copy_that_is_none(base: Path, tmp_path: Path) -> None:
    tensors = coconut(random_model("gpt2")) | {"embedding.weight": torch.ones(VOCAB + 3, 16)}
    source = save(tensors, tmp_path / "source", "checkpoint_3")
    assert "embedding.weight is not the embedding" in refused(
        source, tmp_path / "model", "--base", base
    )


def test_no_layout_fits(base: Path, tmp_path: Path) -> None:
    source = save({"model.norm.weight": torch.ones(1)}, tmp_path / "source")
    message = refused(source, tmp_path / "model", "--base", base)
    assert "no known layout (codi, coconut, run): model.norm.weight" in message


def test_a_layout_that_is_not_its_own(source: Path, base: Path, tmp_path: Path) -> None:
    message = refused(source, tmp_path / "model", "--base", base, "--format", "coconut")
    assert f"tensors that this layout does not have: {CODI}" in message
    assert "see --format" in message


@pytest.mark.parametrize("config", ["", "{}", "[]"])
def test_no_base(config: str, source: Path, tmp_path: Path) -> None:
    (source / "config.json").write_text(config)
    message = refused(source, tmp_path / "model")
    assert f"{source}: no config.json that names a model_type; give --base" in message


def test_a_base_without_a_tokenizer(source: Path, base: Path, tmp_path: Path) -> None:
    (base / "tokenizer.json").unlink()
    message = refused(source, tmp_path / "model", "--base", base)
    assert message.startswith(f"sottovoce convert: {base}: ")
    assert "give --base the directory of the model" in message


def test_a_base_of_another_tokenizer(source: Path, base: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["more"])
    tokenizer.save_pretrained(base)
    message = refused(source, tmp_path / "model", "--base", base)
    assert f"[PAD] at {VOCAB + 1}, and the checkpoint's row for it is {VOCAB}" in message


def test_a_base_of_another_family(source: Path, tmp_path: Path) -> None:
    base = write_base(tmp_path / "llama", "llama")
    message = refused(source, tmp_path / "model", "--base", base)
    assert "do not fit" in message or "lacks" in message


def test_a_base_that_writes_no_text(source: Path, base: Path, tmp_path: Path) -> None:
    from transformers import ViTConfig

    ViTConfig().save_pretrained(base)
    message = refused(source, tmp_path / "model", "--base", base)
    assert "the base, a vit, is no causal language model" in message


def test_the_target_is_taken(source: Path, base: Path) -> None:
    assert f"{base}: is there already" in refused(source, base, "--base", base)


@pytest.mark.parametrize("steps", ["0", "65"])
def test_steps_out_of_range(steps: str, source: Path, base: Path, tmp_path: Path) -> None:
    message = refused(source, tmp_path / "model", "--base", base, "--steps", steps)
    assert f"steps {steps} " in message
    assert "give other --steps" in message


def test_no_checkpoint_or_two(base: Path, tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "none", tmp_path / "model", "--base", base)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds none of model.safetensors" in refused(empty, tmp_path / "model", "--base", base)
    for name in ("checkpoint_1", "checkpoint_2"):
        save({"a": torch.ones(1)}, empty, name)
    message = refused(empty, tmp_path / "model", "--base", base)
    assert "holds checkpoint_1, checkpoint_2; give one of the files" in message


def test_a_shard_is_missing(base: Path, tmp_path: Path) -> None:
    tensors, _ = codi(random_model("gpt2"))
    source = save_shards(tensors, tmp_path / "source", "safetensors", 3, is_indexed=False)
    (source / "model-00002-of-00003.safetensors").unlink()
    message = refused(source, tmp_path / "model", "--base", base)
    assert "2 shards of 3" in message


def test_an_index_that_does_not_agree(base: Path, tmp_path: Path) -> None:
    tensors, _ = codi(random_model("gpt2"))
    source = save_shards(tensors, tmp_path / "source", "bin", 2, is_indexed=True)
    save({"new": torch.ones(1)}, source, "pytorch_model-00002-of-00002.bin")
    message = refused(source, tmp_path / "model", "--base", base)
    assert "pytorch_model.bin.index.json: does not agree" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "has no weight_map; fetch it again, or remove it"),
        ("[]", "has no weight_map; fetch"),
        ('{"weight_map": ["a"]}', "weight_map ['a'] is not an object; fetch"),
        ("{", "cannot be read (Expecting property name"),
    ],
)
def test_an_index_of_something_else(text: str, words: str, base: Path, tmp_path: Path) -> None:
    tensors, _ = codi(random_model("gpt2"))
    source = save_shards(tensors, tmp_path / "source", "safetensors", 2, is_indexed=True)
    index = source / "model.safetensors.index.json"
    index.write_text(text)
    message = refused(source, tmp_path / "model", "--base", base)
    assert f"{index}: {words}" in message
    index.unlink()
    main([str(source), str(tmp_path / "model"), "--base", str(base)])


class Code:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_code_in_a_checkpoint_does_not_run(base: Path, tmp_path: Path) -> None:
    source = tmp_path / "checkpoint_1"
    torch.save({"a": Code(tmp_path / "ran")}, source)
    assert "holds more than tensors" in refused(source, tmp_path / "model", "--base", base)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_cut_short(name: str, base: Path, tmp_path: Path) -> None:
    source = save(codi(random_model("gpt2"))[0], tmp_path / "source", name)
    (source / name).write_bytes((source / name).read_bytes()[:5000])
    assert "fetch it again" in refused(source, tmp_path / "model", "--base", base)


def test_a_file_of_something_else(base: Path, tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    message = refused(tmp_path / "list.pt", tmp_path / "model", "--base", base)
    assert "is no state dict" in message
