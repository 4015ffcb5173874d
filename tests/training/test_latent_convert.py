"""Runs of every latent method as `sottovoce convert` turns them into a model's directory."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from shortcut_scenes import problems, save_teacher, tokenizer

from sottovoce_router.latent.manifest import Manifest, read_manifest
from sottovoce_router.latent.reader import NUM_TOKENS, load_reader
from sottovoce_server.convert import main
from sottovoce_server.convert.own_run import ATP_STEPS, ATP_STRIDE
from sottovoce_training.example import example_of
from sottovoce_training.latent import train
from sottovoce_training.latent.data import MAX_LATENTS, STRIDE
from sottovoce_training.reasoner.tokenizer import END, prompt_of
from sottovoce_training.shortcuts.criticality import derived

WIDTH = 32
SERVED = {"codi": "codi", "sim-cot": "codi", "coconut": "coconut", "atp": "atp", "atp-rl": "atp"}


def saved_run(out: Path, method: str, teacher: Path, monkeypatch: pytest.MonkeyPatch) -> train.Run:
    """A run that has learnt nothing, with random weights so that they are not the teacher's."""
    monkeypatch.setattr(train, "HELD_OUT_PER_FAMILY", 1)
    run = train.Run(out, train.Settings(2, method=method, num_latents=4), 0, teacher)
    with torch.no_grad():
        for parameter in run.model.parameters():
            torch.nn.init.normal_(parameter, 0.2, 0.2)
    run.save()
    return run


@pytest.mark.parametrize("method", train.METHODS)
def test_a_run_is_converted(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    teacher = save_teacher(tmp_path / "teacher")
    run = saved_run(tmp_path / "run", method, teacher, monkeypatch)
    target = tmp_path / "model"
    main([str(tmp_path / "run"), str(target), "--base", str(teacher)])
    thinker: Any = run.model.thinker
    question = problems()[0].question
    ids = torch.tensor([tokenizer().encode(prompt_of(question))])
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(target)(ids).logits
        expected = thinker.model(ids).logits
    assert torch.equal(found, expected)
    head = thinker.head.state_dict()
    path = target / "latent" / "head.safetensors"
    assert path.exists() == bool(head)
    written = load_file(path) if head else {}
    assert written.keys() == head.keys()
    assert all(torch.equal(written[name], head[name]) for name in head)
    reads = method in ("sim-cot", "atp", "atp-rl")
    assert (target / "latent" / "decoder.safetensors").exists() == reads
    is_atp = SERVED[method] == "atp"
    steps, stride, most = (ATP_STEPS, ATP_STRIDE, ATP_STEPS) if is_atp else (4, None, 64)
    assert read_manifest(str(target)) == Manifest(
        SERVED[method], steps, stride, most, WIDTH, "<think>", "</think>", 2 if reads else None
    )
    prompt = AutoTokenizer.from_pretrained(target).apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
    )
    assert prompt == prompt_of(question)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_decoder_reads_as_in_training(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the base's dtype; its end is that of the reasoner's turns."""
    teacher = save_teacher(tmp_path / "teacher")
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps({**config, "dtype": dtype}))
    run = saved_run(tmp_path / "run", "sim-cot", teacher, monkeypatch)
    target = tmp_path / "model"
    main([str(tmp_path / "run"), str(target), "--base", str(teacher)])
    said = capsys.readouterr().out
    assert (
        "kept a decoder of 2 layers, which reads latents in words, as decoder.safetensors" in said
    )
    tensors = load_file(target / "latent" / "decoder.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {getattr(torch, dtype)}
    manifest = read_manifest(str(target))
    assert manifest is not None
    reader = load_reader(str(target), manifest, torch.float32, torch.device("cpu"))
    assert reader is not None
    decoder = run.model.decoder
    assert decoder is not None
    rounded = decoder.to(getattr(torch, dtype)).float()
    z, end = torch.randn(24, WIDTH), tokenizer().convert_tokens_to_ids(END)
    found = [[i for i in row if i >= 0] for row in reader.write(z).tolist()]
    assert found == rounded.write(z, end, NUM_TOKENS)
    assert len({tuple(row) for row in found}) > 1
    assert end == example_of(tokenizer(), problems()[0], derived).answer[-1]


def test_the_constants_are_trainings() -> None:
    """The server may not import them."""
    assert (ATP_STEPS, ATP_STRIDE) == (MAX_LATENTS, STRIDE)


def test_a_run_without_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As runs were before they wrote them."""
    teacher = save_teacher(tmp_path / "teacher")
    saved_run(tmp_path / "run", "sim-cot", teacher, monkeypatch)
    (tmp_path / "run" / "settings.json").unlink()
    arguments = [str(tmp_path / "run"), str(tmp_path / "model"), "--base", str(teacher)]
    with pytest.raises(SystemExit, match="give --steps"):
        main(arguments)
    main([*arguments, "--steps", "5"])
    said = capsys.readouterr().out
    assert "codi, 5 latent steps" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"method": "codi"}', "has no num_latents; write the latents of the run there, or remove"),
        ('{"num_latents": true}', "num_latents True is not a whole number; write"),
        ('{"num_latents": "4"}', "num_latents '4' is not a whole number; write"),
        ("", "cannot be read (Expecting value"),
    ],
)
def test_settings_that_do_not_say_it(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = save_teacher(tmp_path / "teacher")
    saved_run(tmp_path / "run", "codi", teacher, monkeypatch)
    path = tmp_path / "run" / "settings.json"
    path.write_text(text)
    with pytest.raises(SystemExit, match=re.escape(f"sottovoce convert: {path}: {words}")):
        main([str(tmp_path / "run"), str(tmp_path / "model"), "--base", str(teacher)])


DECODER = "decoder.reader.model.model."


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("thinker.head.stop.bias"), "lacks thinker.head.stop.bias"),
        (lambda s: s.pop(f"{DECODER}norm.weight"), f"lacks {DECODER}norm.weight"),
        (lambda s: s.update({f"{DECODER}x": torch.zeros(1)}), f"no place for {DECODER}x"),
        (lambda s: s.update({f"{DECODER}norm.weight": torch.zeros(1)}), f"{DECODER}norm.weight is"),
        (lambda s: s.update({"decoder.x": torch.zeros(1)}), "does not have: decoder.x"),
    ],
)
def test_a_tensor_that_does_not_fit(
    change: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = save_teacher(tmp_path / "teacher")
    saved_run(tmp_path / "run", "atp", teacher, monkeypatch)
    path = tmp_path / "run" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    change(state["model"])
    torch.save(state, path)
    with pytest.raises(SystemExit, match=re.escape(words)):
        main([str(tmp_path / "run"), str(tmp_path / "model"), "--base", str(teacher)])
