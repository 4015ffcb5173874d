"""The converted SmolLM2 against transformers' own GGUF loader and llama.cpp's published rules.

Uses the ordinary cache directory, so the first run on a machine fetches the weights (93 MB).
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import regex
import torch
from gguf import GGUFWriter
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from sottovoce_server import smollm2
from sottovoce_server.gguf import LlamaGguf, hf_name, unpermute
from sottovoce_server.smollm2 import ModelUnavailableError, smollm2_gguf, smollm2_path

# `LLAMA_VOCAB_PRE_TYPE_SMOLLM` in llama.cpp's src/llama-vocab.cpp, applied one after the other.
LLAMA_CPP_PATTERNS = (
    r"\p{N}",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
)

TEXTS = [
    "Hello world, don't you  think?",
    "It costs 1234 €, or\n\n  x² + ½.",
    "def f(x):\n    return x + 12\n",
    "日本語 and emoji 🎉👍🏽",
    " a\tb\r\nc   ",
    "2024-01-02T03:04",
    "ñandú ÀÉÎ naïve",
    "they'll we've I'm IT'S",
    "₁₂ Ⅳ ٣٤",
]


@pytest.fixture(scope="module")
def directory() -> Path:
    return smollm2_path()


@pytest.fixture(scope="module")
def tokenizer(directory: Path) -> Any:
    return AutoTokenizer.from_pretrained(directory)


@pytest.fixture(scope="module")
def model(directory: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def chat(tokenizer: Any, *messages: tuple[str, str], **options: Any) -> str:
    rendered = [{"role": role, "content": content} for role, content in messages]
    text: str = tokenizer.apply_chat_template(
        rendered, tokenize=False, add_generation_prompt=True, **options
    )
    return text


def permute(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """`LlamaModel.permute` of llama.cpp's convert_hf_to_gguf.py."""
    halves = weight.reshape(num_heads, 2, weight.shape[0] // num_heads // 2, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def split(pattern: str, text: str) -> list[str]:
    """Matches of the pattern and what lies between them, in order."""
    pieces, start = [], 0
    for match in regex.finditer(pattern, text):
        pieces += [text[start : match.start()], match.group()]
        start = match.end()
    return [piece for piece in [*pieces, text[start:]] if piece]


def llama_cpp_pieces(text: str) -> list[str]:
    pieces = [text]
    for pattern in LLAMA_CPP_PATTERNS:
        pieces = [part for piece in pieces for part in split(pattern, piece)]
    return pieces


@pytest.mark.parametrize("num_heads", [1, 3])
def test_unpermute_inverts_llama_cpp(num_heads: int) -> None:
    weight = torch.randn(num_heads * 8, 5)
    assert torch.equal(unpermute(permute(weight, num_heads), num_heads), weight)


def test_unpermute_pairs_become_halves() -> None:
    weight = torch.arange(8.0).reshape(8, 1)
    assert unpermute(weight, 2).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_hf_name() -> None:
    assert hf_name("blk.12.attn_q.weight") == "model.layers.12.self_attn.q_proj.weight"
    assert hf_name("token_embd.weight") == "model.embed_tokens.weight"


def test_other_architecture_is_refused(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "mamba.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match=r"general\.architecture is 'mamba'"):
        LlamaGguf(tmp_path / "mamba.gguf")


def test_directory_is_reused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "_convert", None)
    monkeypatch.setattr(smollm2, "_fetch", None)
    assert smollm2_path() == directory


def test_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    target = tmp_path / "sottovoce" / "smollm2-135m-instruct-1"
    target.mkdir(parents=True)
    assert smollm2_path() == target


def test_failed_fetch_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="no route")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(ModelUnavailableError, match=r"check the network(.|\n)*no route"):
        smollm2_path(tmp_path)
    assert not list(tmp_path.iterdir())


def test_config(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["rms_norm_eps"] == 1e-5
    assert config["tie_word_embeddings"] is True
    assert (config["bos_token_id"], config["eos_token_id"]) == (1, 2)


@pytest.mark.parametrize("text", TEXTS)
def test_tokenizer_round_trip(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer(text).input_ids) == text


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_equal_llama_cpp(tokenizer: Any, text: str) -> None:
    pieces = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)
    assert [text[start:end] for _, (start, end) in pieces] == llama_cpp_pieces(text)


def test_markers_are_single_visible_tokens(tokenizer: Any) -> None:
    ids = tokenizer("a<think>\nb</think>").input_ids
    assert [tokenizer.convert_ids_to_tokens(i) for i in (ids[1], ids[-1])] == [
        "<think>",
        "</think>",
    ]
    # vLLM's parsers look for the end marker in text decoded without special tokens.
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a<think>\nb</think>"
    assert tokenizer.decode([1, 2], skip_special_tokens=True) == ""


def test_template_opens_thinking(tokenizer: Any) -> None:
    prompt = chat(tokenizer, ("user", "Hi"))
    assert prompt.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM,")
    assert prompt.endswith("Hi<|im_end|>\n<|im_start|>assistant\n<think>\n")
    plain = chat(tokenizer, ("user", "Hi"), enable_thinking=False)
    assert plain + "<think>\n" == prompt


def test_template_drops_old_reasoning(tokenizer: Any) -> None:
    turns = [("system", "S"), ("user", "Hi"), ("assistant", "<think>\nhm\n</think>\n\nHey")]
    assert chat(tokenizer, *turns, ("user", "Yo"), enable_thinking=False) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHey<|im_end|>\n<|im_start|>user\nYo<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_greedy_answer_is_sensible(tokenizer: Any, model: Any) -> None:
    prompt = chat(tokenizer, ("user", "What is the capital of France?"), enable_thinking=False)
    ids = tokenizer(prompt, return_tensors="pt")
    output = model.generate(**ids, max_new_tokens=16, do_sample=False)[0]
    assert "Paris" in tokenizer.decode(output[ids.input_ids.shape[1] :])


def test_logits_equal_transformers_gguf_loader(tokenizer: Any, model: Any) -> None:
    with torch.device("meta"):
        skeleton = LlamaForCausalLM(model.config)
    loaded = load_gguf_checkpoint(smollm2_gguf(), return_tensors=True, model_to_load=skeleton)
    # Rounded to what the directory stores; only the two markers' rows differ, on purpose.
    weights = {name: t.bfloat16().float() for name, t in loaded["tensors"].items()}
    assert weights.keys() == dict(model.named_parameters()).keys()
    markers = tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    weights["model.embed_tokens.weight"][markers] = model.get_input_embeddings().weight[markers]
    ids = tokenizer("The capital of France is Paris. 12 + 3 = 15", return_tensors="pt").input_ids
    with torch.no_grad():
        logits = model(ids).logits
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
        expected = torch.func.functional_call(model, weights, (ids,)).logits
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
