"""The tiny reasoner's recipe: what carries loss, what is held out, and resuming."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sottovoce_training.families import FAMILIES
from sottovoce_training.reasoner import train
from sottovoce_training.reasoner.data import IGNORED, WEIGHTS, focused
from sottovoce_training.reasoner.train import Run, Settings

SETTINGS = Settings(num_steps=4, tokens_per_batch=512, compiled=False)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "HELD_OUT_PER_FAMILY", 2)
    monkeypatch.setattr(train, "TOKENIZER_PER_FAMILY", 60)


def test_a_run_resumes_where_it_was_saved(tmp_path: Path) -> None:
    run = Run(tmp_path, SETTINGS, seed=0)
    batch = run.stream.pool(16)[0]
    before = run.model.lm_head.weight.clone()
    run._train_step(batch)
    assert not torch.equal(run.model.lm_head.weight, before)
    run.stream.weights["gcd"] = 7.0
    run.save()
    again = Run(tmp_path, SETTINGS, seed=1)
    assert (again.step, again.stream.num_pools) == (1, 1)
    assert again.stream.weights == {**WEIGHTS, "gcd": 7.0}
    assert torch.equal(again.model.lm_head.weight, run.model.lm_head.weight)
    following = [one.stream.pool(16)[0].input_ids for one in (run, again)]
    assert torch.equal(*following)
    assert not torch.equal(following[0][:1], batch.input_ids[:1])
    row, labels = batch.input_ids[0], batch.labels[0]
    text = run.tokenizer.decode(row[labels != IGNORED])
    assert "<|im_start|>" not in text
    assert "</think>" in text
    assert text.endswith("<|im_end|>")


def test_held_out_questions_are_the_test_splits() -> None:
    found = train.held_out_questions(3)
    assert found == {p.question for f in FAMILIES.values() for p in f.problems("test", 0, 3)}


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    settings = Settings(num_steps=1000, warmup=100, decay_share=0.3)
    assert settings.rate(0) == pytest.approx(settings.learning_rate / 100)
    assert settings.rate(500) == settings.learning_rate
    assert settings.rate(850) == pytest.approx(settings.learning_rate / 2)
    assert settings.rate(1000) == 0.0


def test_what_fails_is_seen_more_often_from_a_point_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = {**dict.fromkeys(WEIGHTS, 1.0), "countdown": 0.25, "all": 0.9}
    monkeypatch.setattr(train, "evaluate", lambda *_: [])
    monkeypatch.setattr(train, "accuracy", lambda _: shares)
    run = Run(tmp_path, Settings(num_steps=10, focus_from=0.4, compiled=False), seed=0)
    run.step = 3
    run._evaluate()
    assert run.stream.weights == WEIGHTS
    run.step = 4
    run._evaluate()
    assert run.stream.weights == focused(shares)
    assert focused(shares) == {**dict.fromkeys(WEIGHTS, 0.5), "countdown": 2.0}
