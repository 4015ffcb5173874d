"""Models of published shapes with random weights, for what a step costs does not depend on them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sottovoce_server.models import MODELS

# The tokenizer is the tiny reasoner's: its prompt opens a thinking phase.
PROMPT = "<think>"
OPTIONS: dict[str, Any] = {"load_format": "dummy"}  # engine arguments: no weights are read
# As their configurations have it: huggingface.co/meta-llama/Llama-3.1-8B, Qwen/Qwen3-8B.
SHAPES: dict[str, dict[str, Any]] = {
    "llama-3.1-8b": {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128256,
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
    },
    "qwen3-8b": {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 151936,
        "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
    },
}  # fmt: skip


def copy_tokenizer(folder: str) -> None:
    """The tiny reasoner's, in which `PROMPT` is one token."""
    for path in MODELS["tiny-reasoner"].path().glob("*token*"):
        shutil.copy(path, folder)


@contextmanager
def model_of(shape: str) -> Iterator[str]:
    """A folder with the configuration of a shape and the tiny reasoner's tokenizer."""
    with tempfile.TemporaryDirectory() as folder:
        more = {"hidden_act": "silu", "max_position_embeddings": 8192, "dtype": "bfloat16",
                "eos_token_id": 2, "pad_token_id": 0}  # fmt: skip
        (Path(folder) / "config.json").write_text(json.dumps({**SHAPES[shape], **more}))
        copy_tokenizer(folder)
        yield folder
