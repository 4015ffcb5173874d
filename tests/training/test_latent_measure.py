"""A finished run measured: as trained, with the fewest latents, and what its decoder reads."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from shortcut_scenes import problems, save_teacher

from sottovoce_training.latent import measure, train
from sottovoce_training.latent.data import Lessons
from sottovoce_training.latent.heads import Atp
from sottovoce_training.latent.measure import Finished
from sottovoce_training.reasoner.data import IGNORED

NUM_LATENTS = 3
GROUP = problems()[:6]

Make = Callable[[str], Finished]


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A method's run of one step."""
    monkeypatch.setattr(train, "VALIDATION_PER_FAMILY", 1)
    monkeypatch.setattr(train, "HELD_OUT_PER_FAMILY", 1)
    monkeypatch.setattr(Lessons, "pool", functools.partialmethod(Lessons.pool, 4))
    monkeypatch.setattr(measure, "BATCH", 4)
    teacher = save_teacher(tmp_path / "teacher")

    def make(method: str, num_steps: int = 1) -> Finished:
        settings = train.Settings(num_steps, method=method, num_latents=NUM_LATENTS, batch_size=4)
        run = train.Run(tmp_path / "run", settings, 0, teacher)
        if num_steps == 1:
            run.train()
        else:
            run.save()
        return Finished(tmp_path / "run", teacher)

    return make


@pytest.mark.parametrize("method", ["codi", "sim-cot", "coconut", "atp"])
def test_a_run_is_measured(method: str, finished: Make) -> None:
    run = finished(method)
    found, again = run.measure(GROUP), run.measure(GROUP)
    assert found == again, "ATP-Latent's noise is the same each time"
    if method == "atp":
        assert 2 <= found.latents <= 20
    else:
        assert found.latents == NUM_LATENTS
    assert (found.read is None) == (method in ("codi", "coconut"))
    assert 0 < found.diversity < 2


def test_few_latents_are_few(finished: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = measure.Answerer

    def spy(thinker: object, tokenizer: object, num_latents: int) -> object:
        asked.append(num_latents)
        return real(thinker, tokenizer, num_latents)  # type: ignore[arg-type]

    run = finished("codi")
    monkeypatch.setattr(measure, "Answerer", spy)
    run.measure(GROUP)
    assert asked == [NUM_LATENTS, 1]


def goals(run: Finished) -> list[list[int]]:
    """The text of every latent of GROUP, in the order in which they are read."""
    found = []
    pad, end = run.tokenizer.pad_token_id, run.tokenizer.eos_token_id
    for i in range(0, len(GROUP), measure.BATCH):
        part = [
            measure.example_of(run.tokenizer, p, measure.derived)
            for p in GROUP[i : i + measure.BATCH]
        ]
        steps = train.maker(run.settings)(part, 1.0, pad).steps
        assert steps is not None
        found += [[t for t in row if t not in (IGNORED, end)] for row in steps.labels.tolist()]
    return found


@pytest.mark.parametrize(("num_wrong", "is_taken"), [(0, True), (1, True), (0, False)])
def test_what_the_decoder_reads_right(
    num_wrong: int, is_taken: bool, finished: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished("atp")
    head, decoder = run.model.thinker.head, run.model.decoder
    assert isinstance(head, Atp)
    assert decoder is not None
    torch.nn.init.zeros_(head.stop.weight)
    torch.nn.init.constant_(head.stop.bias, -100.0 if is_taken else 100.0)
    texts = goals(run)
    left = iter([[1]] * num_wrong + texts[num_wrong:])
    monkeypatch.setattr(decoder, "write", lambda z, end: [next(left) for _ in z])
    # Stopped after the first two latents, only each problem's first text has one.
    num_right = len(texts) - num_wrong if is_taken else len(GROUP)
    assert run.measure(GROUP).read == pytest.approx(num_right / len(texts))
    assert len(texts) > len(GROUP)


def test_a_run_that_is_not_over(finished: Make) -> None:
    with pytest.raises(ValueError, match="at step 0 of 9"):
        finished("codi", num_steps=9)  # type: ignore[call-arg]
