"""Runs of every latent method as `sottovoce convert` turns them into a model's directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from shortcut_scenes import problems, save_teacher, tokenizer

from sottovoce_router.latent.manifest import Manifest, read_manifest
from sottovoce_server.convert import main
from sottovoce_server.convert.own_run import ATP_STEPS, ATP_STRIDE
from sottovoce_training.latent import train
from sottovoce_training.latent.data import MAX_LATENTS, STRIDE
from sottovoce_training.reasoner.tokenizer import prompt_of

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
    is_atp = SERVED[method] == "atp"
    steps, stride, most = (ATP_STEPS, ATP_STRIDE, ATP_STEPS) if is_atp else (4, None, 64)
    assert read_manifest(str(target)) == Manifest(
        SERVED[method], steps, stride, most, WIDTH, "<think>", "</think>"
    )
    prompt = AutoTokenizer.from_pretrained(target).apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
    )
    assert prompt == prompt_of(question)


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
    assert "of decoder.*: what only training needs" in said
    assert "codi, 5 latent steps" in said


def test_a_head_that_lacks_a_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = save_teacher(tmp_path / "teacher")
    saved_run(tmp_path / "run", "atp", teacher, monkeypatch)
    path = tmp_path / "run" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state["model"]["thinker.head.stop.bias"]
    torch.save(state, path)
    with pytest.raises(SystemExit, match=r"lacks thinker\.head\.stop\.bias"):
        main([str(tmp_path / "run"), str(tmp_path / "model"), "--base", str(teacher)])
