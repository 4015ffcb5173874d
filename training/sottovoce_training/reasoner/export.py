"""`make export-reasoner`: a run's weights as a model directory that any server loads, with its card."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from pathlib import Path
from string import Template
from typing import Any

import torch

from ..families import FAMILIES
from .evaluate import Result, accuracy, evaluate, validation_problems
from .model import new_model
from .plots import plot_accuracy, plot_loss, read_log
from .tokenizer import END, load_tokenizer

MODELS = Path(__file__).parents[3] / "models"
HELD_OUT_PER_FAMILY = 250


def load_run(run: Path) -> tuple[Any, Any, int]:
    """A run's model in float32, its tokenizer, and how many steps it was trained."""
    tokenizer = load_tokenizer(run / "tokenizer")
    model = new_model(len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id)
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    model.load_state_dict(state["model"])
    return model, tokenizer, state["step"]


def write_model(model: Any, tokenizer: Any, target: Path) -> None:
    """Write weights in bfloat16, tokenizer, chat template and generation configuration.

    Raises:
        FileExistsError: if the directory holds folders, as of shortcuts learnt from its weights.
    """
    if folders := sorted(p.name for p in target.glob("*/")):
        raise FileExistsError(
            f"{target}: {', '.join(folders)}/ would be lost; move it away, and train it anew from "
            "the new weights"
        )
    shutil.rmtree(target, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(target)
    (target / "model.safetensors").chmod(0o644)  # safetensors writes it for its owner only
    tokenizer.save_pretrained(target)
    generation = {
        "eos_token_id": tokenizer.convert_tokens_to_ids(END),
        "pad_token_id": tokenizer.pad_token_id,
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 30,
        "min_p": 0.001,
    }
    (target / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def read_model(path: Path) -> Any:
    """The weights as they were rounded, in float32; the rest as it was before rounding."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def _rows(results: list[Result]) -> str:
    shares, lines = accuracy(results), []
    for name in ("all", *FAMILIES):
        mine = [r for r in results if name in ("all", r.family)]
        steps = sum(r.num_thinking for r in mine) / len(mine)
        lines.append(f"| {name} | {len(mine)} | {shares[name]:.1%} | {steps:.1f} |")
    return "\n".join(lines)


def write_card(target: Path, results: list[Result], about: dict[str, Any]) -> None:
    """Write README.md from card.md beside this module."""
    card = Template((Path(__file__).parent / "card.md").read_text())
    (target / "README.md").write_text(card.substitute(about, rows=_rows(results)))


def _note(run: Path) -> str:
    """What is to be said of one run alone: its `note.md`, if it has one."""
    path = run / "note.md"
    return "\n\n" + path.read_text().strip() if path.exists() else ""


def commit() -> str:
    """The short name of the commit that is checked out, empty outside a repository."""
    command = ["git", "-C", str(MODELS), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def main(argv: list[str] | None = None) -> None:
    """Write the model, measure what was written on the held-out problems, and write its card."""
    parser = argparse.ArgumentParser(prog="make export-reasoner", description=__doc__)
    parser.add_argument("--run", type=Path, default=Path(".cache/tiny-reasoner"))
    parser.add_argument("--out", type=Path, default=MODELS / "tiny-reasoner")
    args = parser.parse_args(argv)
    model, tokenizer, step = load_run(args.run)
    write_model(model, tokenizer, args.out)
    log = read_log(args.run / "log.jsonl")
    plot_loss(log, args.out / "loss.png")
    plot_accuracy(log, args.out / "accuracy.png")
    problems = validation_problems(HELD_OUT_PER_FAMILY, "test")
    results = evaluate(read_model(args.out), tokenizer, problems)
    size = (args.out / "model.safetensors").stat().st_size
    about = {
        "parameters": f"{model.num_parameters() / 1e6:.2f}", "steps": step, "commit": commit(),
        "megabytes": f"{size / 1e6:.1f}", "layers": model.config.num_hidden_layers,
        "width": model.config.hidden_size, "vocabulary": len(tokenizer), "note": _note(args.run),
    }  # fmt: skip
    write_card(args.out, results, about)
    print(f"{args.out}: {accuracy(results)['all']:.1%} of {len(results)} held-out problems")


if __name__ == "__main__":
    main()
