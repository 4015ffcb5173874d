"""The reasoner's tokenizer: lossless, the same token for the same name, one for a repeated line."""

from __future__ import annotations

from typing import Any

import pytest

from sottovoce_training.families import FAMILIES
from sottovoce_training.reasoner.tokenizer import (
    completion_of,
    load_tokenizer,
    prompt_of,
    repeated_lines,
    train_tokenizer,
)

PROBLEMS = [p for family in FAMILIES.values() for p in family.problems("train", 0, 60)]
TEXTS = [prompt_of(p.question) + completion_of(p.chain.text, p.answer) for p in PROBLEMS]
QUESTIONS = [p.question for p in PROBLEMS]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS, QUESTIONS).save_pretrained(path)
    return load_tokenizer(path)


def test_what_was_encoded_comes_back(tokenizer: Any) -> None:
    others = ["Wholly new, with  blanks;\ttabs and ümläuts?\n\n", "3*(4 -5)= x"]
    for text in [*TEXTS, *others]:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_name_and_a_digit_are_the_same_tokens_wherever_they_stand(tokenizer: Any) -> None:
    texts = ("Jack is", "\nJack", "of Jack", ", Jack.", "(Jack")
    for word in ("Jack", "7"):
        ids = tokenizer.encode(word)
        for text in texts:
            found = tokenizer.encode(text.replace("Jack", word))
            runs = [found[i : i + len(ids)] for i in range(len(found))]
            assert ids in runs, text


def test_lines_that_questions_repeat_are_one_token_each(tokenizer: Any) -> None:
    lines = repeated_lines(QUESTIONS)
    assert "5. Do not include any other text or formatting." in lines  # countdown
    assert "Please follow the instruction below:" in lines  # number_sorting
    assert all(len(tokenizer.encode(line)) == 1 for line in lines)
    assert not set(lines) & {p.question for p in PROBLEMS}, "what asks something was merged"


def test_markers_stay_where_turns_are_dropped(tokenizer: Any) -> None:
    text = prompt_of("1 + 1?") + completion_of("1 + 1 = 2", "2")
    kept = tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True)
    assert kept.endswith("<think>\n1 + 1 = 2\n</think>\n2")
    assert "<|im" not in kept
