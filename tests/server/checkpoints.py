"""Tiny random checkpoints in the layouts that `sottovoce convert` takes, and what they compute."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
)
from transformers.pytorch_utils import Conv1D

Tensors = dict[str, torch.Tensor]
EOS = "<|endoftext|>"
VOCAB = 257  # the bytes and EOS
WIDTH = 16
RANK = 128
SCALE = 0.25  # alpha 32 over that rank
CODI = "codi.base_model.model."
_TARGETS = ("c_attn", "c_proj", "c_fc", "q_proj", "k_proj", "v_proj", "o_proj", "up_proj",
            "down_proj", "gate_proj")  # fmt: skip

CONFIGS: dict[str, Callable[..., Any]] = {
    "gpt2": lambda **more: GPT2Config(
        n_embd=WIDTH, n_layer=2, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0,
        **{"vocab_size": VOCAB, **more},
    ),
    "llama": lambda **more: LlamaConfig(
        hidden_size=WIDTH, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=[0, 1],
        **{"vocab_size": VOCAB, "tie_word_embeddings": True, **more},
    ),
}  # fmt: skip


def write_base(folder: Path, family: str, **config: Any) -> Path:
    """A configuration and a tokenizer, which opens a text with EOS for Llama; no weights."""
    CONFIGS[family](**config).save_pretrained(folder)
    tokens = (EOS, *sorted(pre_tokenizers.ByteLevel.alphabet()))
    inner = Tokenizer(BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([EOS])
    if family == "llama":
        inner.post_processor = processors.TemplateProcessing(
            single=f"{EOS} $A", special_tokens=[(EOS, 0)]
        )
    PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=EOS, eos_token=EOS).save_pretrained(
        folder
    )
    return folder


def random_model(family: str, seed: int = 0, **config: Any) -> Any:
    """All parameters random: biases and norms too."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGS[family](vocab_size=VOCAB + 3, **config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0.5 if parameter.ndim == 1 else 0.0, 0.5)
    return model


def codi(model: Any) -> tuple[Tensors, Tensors]:
    """CODI's state dict around a model, and its adapters by the module that they are at."""
    plain, adapters = Tensors(), Tensors()
    named = dict(model.named_modules())
    for name, tensor in model.state_dict().items():
        module, _, kind = name.rpartition(".")
        is_target = module.rpartition(".")[2] in _TARGETS
        plain[f"{CODI}{module}.base_layer.{kind}" if is_target else CODI + name] = tensor
        if is_target and kind == "weight":
            is_conv1d = isinstance(named[module], Conv1D)  # [in, out]
            num_in, num_out = tensor.shape if is_conv1d else tensor.shape[::-1]
            adapters[f"{module}.lora_A.default.weight"] = 0.2 * torch.randn(RANK, num_in)
            adapters[f"{module}.lora_B.default.weight"] = 0.2 * torch.randn(num_out, RANK)
    width = model.config.hidden_size
    head = {f"prj.{part}.bias": torch.randn(width) for part in ("1", "3", "ln")}
    head |= {f"prj.{part}.weight": torch.randn(width, width) for part in ("1", "3")}
    head |= {"prj.ln.weight": torch.randn(width)}
    return plain | {CODI + name: tensor for name, tensor in adapters.items()} | head, adapters


def adapted(model: Any, adapters: Tensors) -> Any:
    """The model with its adapters run beside its modules, as PEFT does before a merge."""

    def beside(down: torch.Tensor, up: torch.Tensor) -> Callable[..., torch.Tensor]:
        return lambda module, given, output: output + SCALE * (given[0] @ down.T @ up.T)

    for name, down in adapters.items():
        module, is_down, _ = name.partition(".lora_A.")
        if is_down:
            up = adapters[f"{module}.lora_B.default.weight"]
            model.get_submodule(module).register_forward_hook(beside(down, up))
    return model


def coconut(model: Any) -> Tensors:
    """Coconut's state dict around a model."""
    found = {f"base_causallm.{name}": tensor for name, tensor in model.state_dict().items()}
    return found | {"embedding.weight": model.get_input_embeddings().weight.detach()}


def decoder(model: Any, prefix: str) -> Tensors:
    """SIM-CoT's auxiliary decoder."""
    return {prefix + name: torch.randn(tensor.shape) for name, tensor in model.state_dict().items()}


def save(tensors: Tensors, folder: Path, name: str = "model.safetensors") -> Path:
    """One file with an empty config.json beside it, as such checkpoints are published."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    if name.endswith(".safetensors"):
        save_file({n: t.clone().contiguous() for n, t in tensors.items()}, folder / name)
    else:
        torch.save(tensors, folder / name)
    return folder


def save_shards(tensors: Tensors, folder: Path, suffix: str, count: int, is_indexed: bool) -> Path:
    """Files of every count-th tensor."""
    stem = {"safetensors": "model", "bin": "pytorch_model"}[suffix]
    files = [f"{stem}-{i + 1:05d}-of-{count:05d}.{suffix}" for i in range(count)]
    for i, file in enumerate(files):
        save(dict(list(tensors.items())[i::count]), folder, file)
    if is_indexed:
        where = {name: files[i % count] for i, name in enumerate(tensors)}
        index = folder / f"{stem}{'.bin' if suffix == 'bin' else '.safetensors'}.index.json"
        index.write_text(json.dumps({"weight_map": where}))
    return folder


def logits(model: Any) -> torch.Tensor:
    """Of a fixed text that ends with the three added rows, float32 [1, T, V]."""
    ids = torch.tensor([[5, 77, 130, 9, VOCAB, VOCAB + 1, VOCAB + 2]])
    with torch.no_grad():
        found: torch.Tensor = model(ids).logits.float()
    return found
