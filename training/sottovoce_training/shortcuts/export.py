"""`make export-shortcuts`: a run's student, routers and adapters beside the reasoner, with a card."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from string import Template
from typing import Any

from ..reasoner.evaluate import accuracy, score, validation_problems
from ..reasoner.export import MODELS, commit, read_model
from ..reasoner.plots import plot_accuracy, plot_loss, read_log
from ..reasoner.tokenizer import load_tokenizer
from .data import LATENT_STEPS
from .generate import DEPTH, Mode, Writer
from .modules import Variant
from .student import Student, new_shortcuts
from .weights import read_weights, write_weights

HELD_OUT_PER_FAMILY = 250
MAX_TOKENS = 256
MODES = (
    Mode(0, None), Mode(0, DEPTH),
    *(Mode(steps, None) for steps in LATENT_STEPS), *(Mode(steps, DEPTH) for steps in LATENT_STEPS),
)  # fmt: skip
CURVES = {  # of each stage: the key of the log, and what it counts
    "latent": ("answer_nll", "nats per token"),
    "shortcut": ("mixed_nll", "nats per token"),
    "joint": ("mixed_nll", "nats per token"),
}


def last_stage(run: Path) -> Path:
    """The directory of the stage that a run ends with.

    Raises:
        FileNotFoundError: if it has not got there.
    """
    for name in ("shortcut", "joint"):
        if (run / name / "checkpoint.pt").exists():
            return run / name
    raise FileNotFoundError(f"{run}: no shortcut/ or joint/ with a checkpoint; train to the end")


def stage_settings(run: Path) -> dict[str, Any]:
    """The settings of the stage that a run ends with, as train.Settings has them."""
    found: dict[str, Any] = json.loads((last_stage(run) / "settings.json").read_text())
    return found


def load_run(run: Path, teacher: Path, variant: Variant) -> tuple[Student, int]:
    """A run's student in float32, and how many steps its last stage was trained."""
    model = read_model(teacher)
    student = Student(model, new_shortcuts(model, variant))
    return student, student.load(last_stage(run) / "checkpoint.pt")


def _draw(run: Path, target: Path) -> str:
    """Every stage's curves, and the lines of the card that show them."""
    lines = []
    for stage, (key, label) in CURVES.items():
        if (run / stage / "log.jsonl").exists():
            log, names = read_log(run / stage / "log.jsonl"), (f"{stage}_loss", f"{stage}_modes")
            plot_loss(log, target / f"{names[0]}.png", key, label)
            plot_accuracy(log, target / f"{names[1]}.png", "modes")
            lines.append(" ".join(f"![{name}]({name}.png)" for name in names))
    return "\n\n".join(lines)


def measure(target: Path, teacher: Path) -> list[tuple[Mode, float, float, int]]:
    """Of what was written: each mode's accuracy, share of layers skipped, number of problems."""
    model, tokenizer = read_model(teacher), load_tokenizer(teacher)
    student = Student(model, read_weights(target, model)[0])
    problems, found = validation_problems(HELD_OUT_PER_FAMILY, "test"), []
    for mode in MODES:
        writer = Writer(student, tokenizer, mode, MAX_TOKENS)
        share = accuracy(score(writer, tokenizer, problems))["all"]
        found.append((mode, share, writer.skipped_share, len(problems)))
    return found


def write_card(
    target: Path, rows: list[tuple[Mode, float, float, int]], about: dict[str, Any]
) -> None:
    """Write README.md from card.md beside this module."""
    lines = [f"| {m.name} | {n} | {share:.1%} | {skipped:.1%} |" for m, share, skipped, n in rows]
    card = Template((Path(__file__).parent / "card.md").read_text())
    (target / "README.md").write_text(card.substitute(about, rows="\n".join(lines)))


def main(argv: list[str] | None = None) -> None:
    """Write the files, measure what was written on the held-out problems, and write the card."""
    parser = argparse.ArgumentParser(prog="make export-shortcuts", description=__doc__)
    parser.add_argument("--run", type=Path, default=Path(".cache/shortcuts"))
    parser.add_argument("--teacher", type=Path, default=MODELS / "tiny-reasoner")
    parser.add_argument("--out", type=Path, help="by default shortcuts/ in the teacher's folder")
    args = parser.parse_args(argv)
    target = args.out or args.teacher / "shortcuts"
    settings = stage_settings(args.run)
    variant = Variant(**settings["variant"])
    student, step = load_run(args.run, args.teacher, variant)
    size = write_weights(student.model, student.shortcuts, target)
    curves = _draw(args.run, target)
    rows = measure(target, args.teacher)
    about = {
        "megabytes": f"{size:.1f}", "commit": commit(), "steps": step, "curves": curves,
        "stage": settings["stage"], "depth": variant.depth, "step": variant.step,
        "criticality": settings["criticality"],
        "rank": student.shortcuts.sizes.adapter_rank, "router": student.shortcuts.sizes.router_width,
    }  # fmt: skip
    write_card(target, rows, about)
    print(f"{target}: {size:.1f} MB, {rows[0][3]} held-out problems in {len(rows)} modes")


if __name__ == "__main__":
    main()
