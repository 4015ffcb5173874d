"""The command line, and a conversion from its start to its end."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sottovoce_router.latent.manifest import DECODER, HEAD, MAX_STEPS, Manifest

from .base import Base, add_tokens, read_base, set_template
from .fit import fit_decoder, fit_head, fit_model
from .layouts import LAYOUTS, layout_of
from .parts import ConvertError, Parts, Thinking
from .source import read_checkpoint
from .target import check_free, write

LORA_ALPHA = 32.0  # of every published checkpoint, with rank 128


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    about = "Turn a checkpoint of a latent-thinking model into a directory that the server loads."
    parser = argparse.ArgumentParser(prog="sottovoce convert", description=about)
    add = parser.add_argument
    add("source", type=Path, help="the checkpoint: a file, or its directory")
    add("target", type=Path, help="the directory to write")
    add(
        "--base", type=Path,
        help="the model it was trained from, for config.json and tokenizer; default: SOURCE",
    )  # fmt: skip
    add("--format", choices=["auto", *LAYOUTS], default="auto", help="default auto, by its tensors")
    add("--steps", type=int, help="latent steps of a request that names none; default the method's")
    add("--lora-alpha", type=float, default=LORA_ALPHA, help="no checkpoint says it; default 32")
    return parser


def convert(args: argparse.Namespace) -> list[str]:
    """Read, check and write; what was done, in lines.

    Raises:
        ConvertError: before anything is written.
    """
    check_free(args.target)
    checkpoint = read_checkpoint(args.source)
    parts = layout_of(args.format, checkpoint).read(checkpoint)
    base = read_base(args.base, checkpoint.folder)
    weights = fit_model(parts, base.config, args.lora_alpha)
    head = fit_head(parts, base.config.hidden_size)
    decoder, num_layers = fit_decoder(parts, base.config)
    manifest = _manifest(parts.thinking, args.steps, base.config.hidden_size, num_layers)
    _fit_tokenizer(base, parts)
    write(args.target, base, weights, {HEAD: head, DECODER: decoder}, manifest)
    kept = f"kept a decoder of {num_layers} layers, which reads latents in words, as {DECODER}"
    return [
        *parts.dropped,
        *([kept] if decoder else []),
        f"wrote {args.target}: {manifest.method}, {manifest.steps} latent steps",
    ]


def _fit_tokenizer(base: Base, parts: Parts) -> None:
    tokenizer, thinking = base.tokenizer, parts.thinking
    add_tokens(tokenizer, parts.added, base.config.vocab_size - len(parts.added))
    for marker in (thinking.start, thinking.end):
        if len(tokenizer.encode(marker, add_special_tokens=False)) != 1:
            raise ConvertError(f"the tokenizer has no token {marker}; give another --base")
    if tokenizer.pad_token is None and parts.pad:
        tokenizer.pad_token = parts.pad
    if parts.before_start is not None:
        set_template(tokenizer, parts.before_start, thinking.start)


def _manifest(
    thinking: Thinking, asked: int | None, width: int, decoder_layers: int | None
) -> Manifest:
    steps = thinking.steps if asked is None else asked
    if steps is None:
        raise ConvertError("the run's settings.json, which says its latents, is gone; give --steps")
    try:
        return Manifest(
            method=thinking.method,
            steps=steps,
            stride=thinking.stride,
            max_steps=thinking.max_steps or MAX_STEPS,
            width=width,
            start=thinking.start,
            end=thinking.end,
            decoder_layers=decoder_layers,
        )
    except ValueError as error:
        raise ConvertError(f"{error}; give other --steps") from error


def main(argv: list[str]) -> None:
    """Convert, or say on stderr why not and exit with 1."""
    args = build_parser().parse_args(argv)
    try:
        print("\n".join(convert(args)))
    except ConvertError as error:
        sys.exit(f"sottovoce convert: {error}")
