"""The two stages' losses (arXiv 2505.18962, section 3): answers, teacher's states, early exits."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..llama import Reader
from ..reasoner.data import IGNORED
from .criticality import exit_weights
from .data import Batch, Lesson
from .modules import Gate
from .student import Pass, Student

Losses = dict[str, torch.Tensor]  # scalars: `loss`, which is minimised, and its terms


def nll(student: Reader, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy, in nats, of labels [B, T] given the states [B, T, H] before them."""
    is_labelled = labels != IGNORED
    logits = student.logits(hidden[is_labelled])
    return F.cross_entropy(logits.float(), labels[is_labelled])


def state_mse(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of states [N, H]; no gradient reaches `theirs`."""
    return F.mse_loss(ours.float(), theirs.detach().float())


def early_exit_mse(
    states: torch.Tensor, final: torch.Tensor, weights: torch.Tensor, is_counted: torch.Tensor
) -> torch.Tensor:
    """Sum over layers of e_{l,t} times the mean squared difference, averaged over positions.

    States [L, B, S, H] and final [B, S, H] after the final norm, weights [L, B, S], is_counted
    bool [B, S]. No gradient reaches `final`.
    """
    squares = (states.float() - final.detach().float()).square().mean(-1)  # [L, B, S]
    found: torch.Tensor = (weights * squares).sum(0)[is_counted].mean()
    return found


def layers_run(
    gates: torch.Tensor, criticality: torch.Tensor, is_counted: torch.Tensor
) -> torch.Tensor:
    """The layer executions that positions which are not critical keep, as a share of all.

    Gates w [L, B, S], criticality 0 to 1 and is_counted bool [B, S].
    """
    kept = (1 - gates) * (1 - criticality) * is_counted
    found: torch.Tensor = kept.sum() / (len(gates) * is_counted.sum()).clamp_min(1)
    return found


def latent_losses(
    student: Student, teacher: Student, lesson: Lesson, alpha: float, plain: Pass | None = None
) -> Losses:
    """Stage 1: answer NLL + alpha MSE to the teacher's last states where both give the answer.

    Two terms are our additions. With a decoder, the NLL of the chain's steps read from the latents
    that stand for them (SIM-CoT, 2509.20317): without it more latents than one were no better.
    An explicit lesson has the NLL of the whole chain alone: it keeps the student able to think in
    words, which requests without latent steps want. `plain` is the student's forward pass without
    shortcuts, should it be there already.
    """
    batch = lesson.batch
    found = student(batch) if plain is None else plain
    answer = nll(student, found.hidden, batch.labels)
    if lesson.latent is None:
        return {"loss": answer, "explicit_nll": answer}
    with torch.no_grad():
        taught = teacher(lesson.explicit).hidden[lesson.explicit.is_answer]
    distance = state_mse(found.hidden[batch.is_answer], taught)
    terms = {"loss": answer + alpha * distance, "answer_nll": answer, "state_mse": distance}
    if student.decoder is not None and lesson.steps is not None:
        terms["step_nll"] = student.decoder.nll(found.thoughts(), lesson.steps)
        terms["loss"] = terms["loss"] + terms["step_nll"]
    return terms


def _is_counted(batch: Batch) -> torch.Tensor:
    """Latents and text without padding, bool [B, K + T]."""
    is_latent = torch.ones(len(batch.is_text), batch.num_latents, dtype=torch.bool)
    return torch.cat([is_latent, batch.is_text], dim=1)


def _exits(student: Student, batch: Batch, mixed: Pass, plain: Pass) -> torch.Tensor:
    states = student.normed(mixed.states())
    last = [*(segment.states[-1] for segment in plain.latents), plain.text.states[-1]]
    final = student.normed(torch.cat(last, dim=1))
    weights = exit_weights(batch.criticality, len(states))
    return early_exit_mse(states, final, weights, _is_counted(batch))


def _gates(mixed: Pass) -> torch.Tensor | None:
    """w of every layer at latents and text, [L, B, K + T]; 0 where there is no shortcut."""
    segments = [*mixed.latents, mixed.text]
    if not any(segment.gates for segment in segments):
        return None
    none = [torch.zeros(segment.states[0].shape[:2]) for segment in segments]
    layers = range(len(mixed.text.states) - 1)
    return torch.stack(
        [
            torch.cat(
                [s.gates[i] if s.gates else zero for s, zero in zip(segments, none, strict=True)], 1
            )
            for i in layers
        ]
    )


def shortcut_losses(
    student: Student, lesson: Lesson, beta: float, gamma: float = 0.0, plain: Pass | None = None
) -> Losses:
    """Stage 2: weighted early-exit MSE to the plain student's final states + beta NLL + gamma run.

    The last term, what positions that are not critical still run, is our addition: by the other
    two alone no router came to skip a layer.
    """
    batch = lesson.batch
    if plain is None:
        with torch.no_grad():
            plain = student(batch)
    mixed = student(batch, Gate(), plain.prompt)
    answer, exits = nll(student, mixed.hidden, batch.labels), _exits(student, batch, mixed, plain)
    found = {"loss": exits + beta * answer, "mixed_nll": answer, "exit_mse": exits}
    gates, is_counted = _gates(mixed), _is_counted(batch)
    if gates is not None:
        found["run"] = layers_run(gates, batch.criticality, is_counted)
        found["loss"] = found["loss"] + gamma * found["run"]
        found["gate"] = gates[:, is_counted].mean()
    return found


def joint_losses(
    student: Student,
    teacher: Student,
    lesson: Lesson,
    alpha: float,
    beta: float,
    gamma: float = 0.0,
) -> Losses:
    """The ablation without stages: the sum of both, all parameters learning at once."""
    plain = student(lesson.batch)
    first = latent_losses(student, teacher, lesson, alpha, plain)
    second = shortcut_losses(student, lesson, beta, gamma, plain)
    return {**first, **second, "loss": first["loss"] + second["loss"]}
