"""Lessons: the tokens that the reasoner was trained on, which carry loss, what is critical."""

from __future__ import annotations

import torch
from shortcut_scenes import examples, problems, row_of, tokenizer

from sottovoce_training.reasoner.data import IGNORED
from sottovoce_training.reasoner.tokenizer import completion_of, prompt_of
from sottovoce_training.shortcuts.criticality import derived
from sottovoce_training.shortcuts.data import (
    LATENT_STEPS,
    Batch,
    Lessons,
    explicit_batch,
    latent_batch,
)

GROUP = (0, 30, 90)


def test_an_explicit_row_is_what_the_reasoner_saw() -> None:
    batch = explicit_batch(examples(*GROUP), tokenizer().pad_token_id)
    for row, index in enumerate(GROUP):
        problem = problems()[index]
        prompt, text = row_of(batch, row)
        assert prompt == tokenizer().encode(prompt_of(problem.question))
        assert text == tokenizer().encode(completion_of(problem.chain.text, problem.answer))
        labels = batch.labels[row]
        assert torch.equal(labels[batch.is_text[row]], batch.text_ids[row][batch.is_text[row]])
        assert (labels[~batch.is_text[row]] == IGNORED).all()


def test_tokens_are_as_critical_as_their_line() -> None:
    batch = explicit_batch(examples(*GROUP), tokenizer().pad_token_id)
    for row, index in enumerate(GROUP):
        chain = problems()[index].chain
        weights = batch.criticality[row][batch.is_text[row]].tolist()
        for step, is_critical in zip(chain.steps, derived(chain), strict=True):
            length = len(tokenizer().encode(step.text + "\n"))
            assert weights[:length] == [float(is_critical)] * length, step.text
            weights = weights[length:]
        assert weights == [1.0] * len(weights)
        assert len(weights) >= 4, "marker, line break, answer and end"


def test_a_latent_row_is_given_the_marker_and_learns_the_answer() -> None:
    batch = latent_batch(examples(*GROUP), 4, tokenizer().pad_token_id)
    assert batch.num_latents == 4
    for row, index in enumerate(GROUP):
        _, text = row_of(batch, row)
        assert tokenizer().decode(text) == f"</think>\n{problems()[index].answer}<|im_end|>"
        learnt = batch.labels[row][batch.labels[row] != IGNORED].tolist()
        assert learnt == text[1:]
        assert batch.is_answer[row].sum() == len(learnt)
        weights = batch.criticality[row]
        assert weights[4 : 4 + len(text)].tolist() == [1.0] * len(text)
        assert weights[4 + len(text) :].tolist() == [0.0] * (len(weights) - 4 - len(text))
    assert set(batch.criticality[:, :4].flatten().tolist()) > {0.0, 1.0}


def test_both_forms_give_the_same_answer_tokens_in_the_same_order() -> None:
    group, pad = examples(*GROUP), tokenizer().pad_token_id
    latent, explicit = latent_batch(group, 2, pad), explicit_batch(group, pad)
    assert torch.equal(latent.text_ids[latent.is_answer], explicit.text_ids[explicit.is_answer])


def test_padding_is_left_of_prompts_and_right_of_texts() -> None:
    batch = explicit_batch(examples(*GROUP), tokenizer().pad_token_id)
    assert batch.is_prompt[:, -1].all()
    assert batch.is_text[:, 0].all()
    assert not batch.is_prompt.all()
    assert not batch.is_text.all()
    assert (batch.prompt_ids[~batch.is_prompt] == tokenizer().pad_token_id).all()


def lessons(share: float) -> Lessons:
    return Lessons(tokenizer(), set(), derived, batch_size=4, explicit_share=share)


def test_a_pool_is_reproducible_and_mixes_both_forms() -> None:
    stream = lessons(0.5)
    pool, again = stream.pool(320), lessons(0.5).pool(320)
    forms = [lesson.batch.num_latents for lesson in pool]
    assert forms == [lesson.batch.num_latents for lesson in again]
    assert set(forms) == {0, *LATENT_STEPS}
    assert 0.2 < forms.count(0) / len(forms) < 0.8
    first: list[Batch] = [pool[0].batch, again[0].batch]
    assert torch.equal(first[0].text_ids, first[1].text_ids)
    assert stream.num_pools == 1
    following = stream.pool(16)[0].explicit
    assert all(not torch.equal(following.prompt_ids, x.explicit.prompt_ids) for x in pool)
    assert all(lesson.latent is None for lesson in lessons(1.0).pool(16))
    for lesson in lessons(0.0).pool(16):
        assert lesson.latent is not None
        assert lesson.steps is not None
        assert lesson.steps.latents.min() == 0
        assert lesson.steps.latents.max() < lesson.latent.num_latents
