"""The methods' losses, each a sum of named terms."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..shortcuts.data import Batch
from ..shortcuts.losses import Losses, nll
from ..steps import StepDecoder
from .data import STRIDE, Lesson
from .heads import Atp, Thought
from .thinker import Pass, Thinker

KL_WEIGHT = 1e-3  # a dimension's share; our choice


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Mean over layers of the L1 distance of states [L, B, H] over the deviation of `theirs`.

    No gradient reaches `theirs`. Source: CODI, arXiv 2502.21074.
    """
    goal = theirs.detach().float()
    scale = goal.std(dim=(1, 2), keepdim=True).clamp_min(1e-6)
    return ((ours.float() - goal).abs() / scale).mean()


def before_answer(found: Pass, batch: Batch) -> torch.Tensor:
    """Every layer's output at the token before the answer, [L, B, H]."""
    rows, where = torch.arange(len(batch.text_ids)), batch.is_answer.int().argmax(1)
    return torch.stack([state[rows, where] for state in found.text.states[1:]])


def codi_losses(thinker: Thinker, lesson: Lesson, decoder: StepDecoder | None) -> Losses:
    """Answer NLL in both forms + the distance of states before the answer (+ SIM-CoT's steps).

    Sources: 2502.21074 with its three weights at 1; with a decoder, 2509.20317.
    """
    assert lesson.explicit is not None
    prompt = thinker.prompt(lesson.latent.prompt_ids, lesson.latent.is_prompt)
    spoken = thinker(lesson.explicit, prompt=prompt)
    thought = thinker(lesson.latent, prompt=prompt)
    found = {
        "explicit_nll": nll(thinker, spoken.hidden, lesson.explicit.labels),
        "answer_nll": nll(thinker, thought.hidden, lesson.latent.labels),
        "distance": distance(
            before_answer(thought, lesson.latent), before_answer(spoken, lesson.explicit)
        ),
    }
    if decoder is not None:
        assert thought.thought is not None
        assert lesson.steps is not None
        found["step_nll"] = decoder.nll(thought.thought.z, lesson.steps)
    return summed(found)


def coconut_losses(thinker: Thinker, lesson: Lesson) -> Losses:
    """NLL of what is still written out (arXiv 2412.06769)."""
    thought = thinker(lesson.latent)
    return summed({"answer_nll": nll(thinker, thought.hidden, lesson.latent.labels)})


def kl(thought: Thought, scale: float, is_real: torch.Tensor) -> torch.Tensor:
    """Mean divergence, in nats a dimension, of the thoughts' normals from N(0, scale^2)."""
    assert thought.mean is not None
    assert thought.log_std is not None
    mean, log_std = thought.mean / scale, thought.log_std - torch.tensor(scale).log()
    each = 0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std
    return each[is_real].mean()


def stop_loss(head: Atp, after: torch.Tensor, is_real: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of the stop head, read after every STRIDE latents: true at the last."""
    asked = is_real[:, STRIDE - 1 :: STRIDE]
    logits = head.stop(after[:, STRIDE - 1 :: STRIDE]).squeeze(-1)
    is_last = asked & ~F.pad(asked, (0, 1))[:, 1:]
    return F.binary_cross_entropy_with_logits(logits[asked], is_last[asked].float())


def atp_losses(thinker: Thinker, lesson: Lesson, decoder: StepDecoder) -> Losses:
    """The VAE's terms, the answer's and the stop head's (arXiv 2601.21598; weights are ours)."""
    assert lesson.is_real is not None
    assert lesson.steps is not None
    assert isinstance(thinker.head, Atp)
    found = thinker(lesson.latent, lesson.is_real)
    assert found.thought is not None
    scale = thinker.model.model.embed_tokens.weight.detach().std().item()
    return summed({
        "answer_nll": nll(thinker, found.hidden, lesson.latent.labels),
        "step_nll": decoder.nll(found.thought.z, lesson.steps),
        "kl": KL_WEIGHT * kl(found.thought, scale, lesson.is_real),
        "stop": stop_loss(thinker.head, found.after, lesson.is_real),
    })  # fmt: skip


def summed(terms: Losses) -> Losses:
    """The terms, and `loss`, their sum."""
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}
