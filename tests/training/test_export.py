"""Exported weights: what any server loads is what was trained, and the card says how it does."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch

from sottovoce_training.families import FAMILIES
from sottovoce_training.reasoner import export, train
from sottovoce_training.reasoner.evaluate import evaluate
from sottovoce_training.reasoner.plots import read_log
from sottovoce_training.reasoner.tokenizer import END, prompt_of
from sottovoce_training.reasoner.train import Run, Settings

SETTINGS = Settings(num_steps=2, tokens_per_batch=512, compiled=False)
PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a moment, with the log of a longer one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "HELD_OUT_PER_FAMILY", 2)
        found = Run(tmp_path_factory.mktemp("run"), SETTINGS, seed=0)
    found._train_step(found.stream.pool(16)[0])
    found.save()
    (found.out / "note.md").write_text("Stopped once.\n")
    for step in (1, 2):
        found.step = step
        found._log(loss=3.0 / step)
        found._log(accuracy={"all": 0.25 * step, "gcd": 0.5 * step})
    return found


@pytest.fixture(scope="module")
def exported(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("models") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "HELD_OUT_PER_FAMILY", 1)
        patch.setattr(export, "evaluate", functools.partial(evaluate, max_tokens=8))
        export.main(["--run", str(run.out), "--out", str(target)])
    return target


def test_the_weights_are_the_runs(run: Run, exported: Path) -> None:
    saved = export.read_model(exported).state_dict()
    trained = run.model.state_dict()
    assert saved.keys() == trained.keys()
    for name, weight in trained.items():
        assert torch.equal(saved[name], weight.bfloat16().float()), name


def test_the_tokenizer_renders_a_chat_as_training_did(exported: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(exported)
    turns = [{"role": "user", "content": "How many legs?"}]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert rendered == prompt_of("How many legs?")
    generation = json.loads((exported / "generation_config.json").read_text())
    assert generation["eos_token_id"] == tokenizer.convert_tokens_to_ids(END)


def test_the_card_has_a_row_for_every_family(exported: Path) -> None:
    card = (exported / "README.md").read_text()
    rows = [line.split("|")[1:4] for line in card.splitlines() if line.startswith("| ")][1:]
    found = {name.strip(): (int(count), share.strip()) for name, count, share in rows}
    assert found.keys() == {"all", *FAMILIES}
    assert found["all"] == (len(FAMILIES), "0.0%"), "an untrained model answers nothing"
    assert "$" not in card, "a placeholder is left"
    assert "\n\nStopped once.\n" in card


def test_the_curves_are_drawn(exported: Path) -> None:
    for name in ("loss.png", "accuracy.png"):
        assert (exported / name).read_bytes().startswith(PNG)


def test_a_step_written_again_counts_once(tmp_path: Path) -> None:
    entries = [{"step": 20, "loss": 2.0}, {"step": 40, "loss": 9.0}, {"step": 40, "loss": 1.0}]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(e) + "\n" for e in [*entries, {"step": 40, "accuracy": {}}]))
    assert read_log(log) == [entries[0], {"step": 40, "accuracy": {}}, entries[2]]


def test_what_was_learnt_from_the_old_weights_is_not_deleted(run: Run, tmp_path: Path) -> None:
    (tmp_path / "shortcuts").mkdir()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileExistsError, match="shortcuts/ would be lost"):
        export.main(["--run", str(run.out), "--out", str(tmp_path)])
    assert {p.name for p in tmp_path.iterdir()} == {"shortcuts", "config.json"}
