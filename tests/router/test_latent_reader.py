"""The step decoder as served: it writes what the trainer's does, from weights alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from sottovoce_router.errors import PluginError
from sottovoce_router.latent.manifest import Manifest, read_manifest
from sottovoce_router.latent.reader import NUM_TOKENS, StepReader, load_reader
from sottovoce_training.steps import StepDecoder

WIDTH, VOCAB, ENDS, CPU = 32, 40, [3, 4], torch.device("cpu")


def write(folder: Path, is_tied: bool, stride: int | None = None) -> StepDecoder:
    """A model of three layers, and a decoder of two with weights of its own."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.4,
        tie_word_embeddings=is_tied, bos_token_id=None, eos_token_id=ENDS,
    )  # fmt: skip
    config.save_pretrained(folder)
    decoder = StepDecoder(LlamaForCausalLM(config).eval())
    tensors = {k: v.clone() for k, v in decoder.reader.model.state_dict().items()}
    if is_tied:
        del tensors["lm_head.weight"]
    method = "codi" if stride is None else "atp"
    Manifest(method, 4, stride, 8, WIDTH, "<bot>", "<eot>", decoder_layers=2).write(folder)
    save_file(tensors, folder / "latent" / "decoder.safetensors")
    return decoder


def load(folder: Path, dtype: torch.dtype = torch.float32) -> StepReader:
    manifest = read_manifest(str(folder))
    assert manifest is not None
    reader = load_reader(str(folder), manifest, dtype, CPU)
    assert reader is not None
    return reader


def texts_of(ids: torch.Tensor) -> list[list[int]]:
    """Rows without the padding, which nothing follows."""
    rows: list[list[int]] = ids.tolist()
    ended = [row[: row.index(-1)] if -1 in row else row for row in rows]
    assert all(set(row[len(text) :]) <= {-1} for row, text in zip(rows, ended, strict=True))
    return ended


@pytest.mark.parametrize("is_tied", [True, False])
def test_it_writes_what_the_trainers_does(is_tied: bool, tmp_path: Path) -> None:
    """Whose texts have one end: the other is looked for in what it went on with."""
    decoder, reader = write(tmp_path, is_tied), load(tmp_path)
    z = torch.randn(48, WIDTH)
    found = reader.write(z)
    assert (found.shape, found.dtype) == ((48, NUM_TOKENS), torch.int64)
    wanted = decoder.write(z, ENDS[0], NUM_TOKENS)
    cut = [row[: row.index(ENDS[1])] if ENDS[1] in row else row for row in wanted]
    assert texts_of(found) == cut
    lengths = {len(row) for row in cut}
    assert NUM_TOKENS in lengths
    assert len(lengths) > 5
    assert any(len(a) < len(b) for a, b in zip(cut, wanted, strict=True))


def test_a_row_is_read_as_alone(tmp_path: Path) -> None:
    write(tmp_path, is_tied=True)
    reader, z = load(tmp_path), torch.randn(5, WIDTH)
    together = reader.write(z)
    for row in range(5):
        assert torch.equal(reader.write(z[row : row + 1])[0], together[row])


def test_it_has_the_models_dtype(tmp_path: Path) -> None:
    write(tmp_path, is_tied=True)
    assert load(tmp_path, torch.bfloat16).write(torch.randn(2, WIDTH)).shape == (2, NUM_TOKENS)


def test_every_stride_th_latent_is_for_it(tmp_path: Path) -> None:
    write(tmp_path / "each", is_tied=True)
    write(tmp_path / "second", is_tied=True, stride=2)
    assert [load(tmp_path / name).stride for name in ("each", "second")] == [1, 2]


def test_a_model_without_one(tmp_path: Path) -> None:
    """As those that were converted before there were any."""
    Manifest("codi", 4, None, 8, WIDTH, "<bot>", "<eot>").write(tmp_path)
    path = tmp_path / "latent" / "manifest.json"
    lines = path.read_text().splitlines()
    kept = [line for line in lines if "decoder_layers" not in line]
    kept[-2] = kept[-2].rstrip(",")
    path.write_text("\n".join(kept))
    assert len(kept) == len(lines) - 1
    manifest = read_manifest(str(tmp_path))
    assert manifest is not None
    assert load_reader(str(tmp_path), manifest, torch.float32, CPU) is None
    with pytest.raises(ValueError, match="decoder_layers 0 must be 1 or more"):
        Manifest("codi", 4, None, 8, WIDTH, "<bot>", "<eot>", decoder_layers=0)


def _misshapen(tensors: dict[str, Any]) -> None:
    tensors["model.norm.weight"] = torch.zeros(3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("model.layers.1.mlp.up_proj.weight"), r"layers\.1\.mlp\.up_proj\.weight"),
        (lambda t: t.update({"model.layers.2.x": torch.zeros(1)}), r"model\.layers\.2\.x"),
        (_misshapen, r"model\.norm\.weight"),
        (lambda t: t.pop("model.embed_tokens.weight"), r"model\.embed_tokens\.weight"),
    ],
)
def test_a_decoder_of_another_model_is_refused(change: Any, words: str, tmp_path: Path) -> None:
    write(tmp_path, is_tied=True)
    path = tmp_path / "latent" / "decoder.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(PluginError, match=rf"(?s)decoder.safetensors: .*{words}.*convert"):
        load(tmp_path)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    write(tmp_path, is_tied=True)
    (tmp_path / "latent" / "decoder.safetensors").unlink()
    with pytest.raises(PluginError, match=r"(?s)decoder.safetensors: .*convert"):
        load(tmp_path)
