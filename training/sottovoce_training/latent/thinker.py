"""A model with its latent loop, and a pass over a batch that keeps what the losses need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..llama import Reader, Segment, Tape
from ..shortcuts.data import Batch
from .data import STRIDE
from .heads import Atp, Head, Thought, new_head


@dataclass(frozen=True)
class Pass:
    """What a forward pass over a batch leaves."""

    hidden: torch.Tensor  # [B, T, H]: after the final norm, at the position before each text token
    after: torch.Tensor  # [B, K, H]: after the final norm, at each latent
    thought: Thought | None  # of [B, K, H]; None without latents
    text: Segment


class Thinker(Reader):
    """A Llama and the head that feeds its last state back."""

    def __init__(self, model: Any, method: str) -> None:
        super().__init__(model)
        scale = model.model.embed_tokens.weight.std().item()
        self.head: nn.Module = new_head(method, model.config.hidden_size, scale)

    def loop(self, tape: Tape, is_real: torch.Tensor) -> tuple[torch.Tensor, list[Thought]]:
        """Take latent steps where bool [B, K] is true; rows past their last one wait.

        Returns the states [B, K, H] after each, and the thoughts, of [B, 1, H].
        """
        head: Head = self.head
        after, thoughts = [tape.last[:, :0]], list[Thought]()
        for k in range(is_real.shape[1]):
            thoughts.append(head(tape.last))
            tape.extend(thoughts[-1].z, is_real[:, k : k + 1])
            after.append(tape.last)
        return torch.cat(after, dim=1), thoughts

    def draw(
        self, tape: Tape, most: int, is_over: Callable[[torch.Tensor], torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take `most` latent steps, or until every row's stop head, asked each STRIDE, ends it.

        Returns the latents [B, K, H], and which of them each row took, bool [B, K].

        Args:
            is_over: what the logits of the stop head [B, 1] mean: bool [B, 1].
        """
        head, made, taken = self.head, list[torch.Tensor](), list[torch.Tensor]()
        is_active = torch.ones(len(tape.last), 1, dtype=torch.bool)
        while is_active.any() and len(made) < most:
            made.append(head(tape.last).z)
            taken.append(is_active)
            tape.extend(made[-1], is_active)
            if isinstance(head, Atp) and len(made) % STRIDE == 0:
                is_active = is_active & ~is_over(head.stop(tape.last).squeeze(-1))
        return torch.cat(made, dim=1), torch.cat(taken, dim=1)

    def forward(
        self, batch: Batch, is_real: torch.Tensor | None = None, prompt: Tape | None = None
    ) -> Pass:
        """Prompt, latent steps and text; `prompt`, if read before, is left as it was."""
        tape = prompt.fork() if prompt else self.prompt(batch.prompt_ids, batch.is_prompt)
        if is_real is None:
            is_real = torch.ones(len(batch.prompt_ids), batch.num_latents, dtype=torch.bool)
        after, thoughts = self.loop(tape, is_real)
        last = tape.last
        text = tape.extend(self.embed(batch.text_ids), batch.is_text)
        ends = self.normed(text.states[-1])
        hidden = torch.cat([last, ends[:, :-1]], dim=1)
        return Pass(hidden, after, joined(thoughts) if thoughts else None, text)


def joined(thoughts: list[Thought]) -> Thought:
    """Thoughts of [B, 1, H] as one of [B, K, H]."""
    z = torch.cat([t.z for t in thoughts], dim=1)
    means = [t.mean for t in thoughts if t.mean is not None]
    log_stds = [t.log_std for t in thoughts if t.log_std is not None]
    if not means:
        return Thought(z)
    return Thought(z, torch.cat(means, dim=1), torch.cat(log_stds, dim=1))
