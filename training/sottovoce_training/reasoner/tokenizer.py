"""A byte-level BPE tokenizer of our own: single digits, whole names, chat turns, thinking markers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCAB_SIZE = 1408
PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
THINK, END_THINK = "<think>", "</think>"
# A digit, a name and a word are pieces. The space before a digit, a name or a bracket belongs to what
# stands before it: a name or a number is then the same token wherever it stands.
_BEFORE = r"(?: (?=[A-Z0-9(]))?"
_PIECES = rf"[0-9]|[A-Z][a-z]*| ?[a-z]+{_BEFORE}| ?[^\sA-Za-z0-9]+{_BEFORE}|\s+"
_REPEATED = 0.06  # of all questions: a line in more of them is one token, for it says nothing new
# The generation prompt opens the thinking block, so every completion begins inside it.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
)


def prompt_of(question: str) -> str:
    """A question as the chat template renders it."""
    return f"{START}user\n{question}{END}\n{START}assistant\n{THINK}\n"


def completion_of(thought: str, answer: str) -> str:
    """What the model is to write."""
    return f"{thought}\n{END_THINK}\n{answer}{END}"


def repeated_lines(questions: Sequence[str]) -> list[str]:
    """The lines of several words that a fixed share of the questions has, word for word."""
    lines = Counter(line for text in questions for line in set(text.split("\n")) if " " in line)
    return [line for line, count in lines.most_common() if count > _REPEATED * len(questions)]


def train_tokenizer(texts: Iterable[str], questions: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Learn the merges from texts; the lines that the questions repeat become a token each."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[PAD, START, END, THINK, END_THINK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # Ordinary tokens from here on: reasoning parsers look for the markers in the decoded text.
    ordinary = [THINK, END_THINK, *repeated_lines(questions)]
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in ordinary])
    fast: PreTrainedTokenizerFast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, model_max_length=2048
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """A saved tokenizer."""
    from transformers import PreTrainedTokenizerFast

    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(path)
    return tokenizer
