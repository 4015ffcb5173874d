"""CODI and SIM-CoT's CODI: a wrapper's whole state dict.

Names from zhenyi4/codi (src/model.py) and InternLM/SIM-CoT: the model under `codi.`, wrapped by PEFT
or not, and `prj`, a Sequential of dropout, Linear, GELU, Linear and `ln`. Its embedding has three
rows after the base's: pad, start of thought, end of thought. Only pad has a text there.
"""

from __future__ import annotations

from .parts import Checkpoint, Parts, Thinking, dropped, split

STEPS = 6  # of every published checkpoint
_DROPPED = {
    "decoder.": "SIM-CoT's auxiliary decoder, which only training needs",
    "pj_in.": "its projection of what it reads",
    "pj_out.": "its projection of what it writes",
}
_LAYERS = {"prj.1": "projection.hidden", "prj.3": "projection.out", "prj.ln": "projection.norm"}


def is_codi(names: set[str]) -> bool:
    """Whether these are its names."""
    return any(name.startswith("codi.") for name in names)


def read_codi(checkpoint: Checkpoint) -> Parts:
    """The prompt is the bare question and the marker (its test.py, --remove_eos True)."""
    names = checkpoint.tensors.keys()
    inner = "base_model.model."
    prefix = "codi." + (inner if any(n.startswith("codi." + inner) for n in names) else "")
    found = split(checkpoint.tensors, (prefix, "prj.", *_DROPPED))
    return Parts(
        model=found[prefix],
        prefix=prefix,
        head={f"prj.{name}": tensor for name, tensor in found["prj."].items()},
        head_names={
            f"{theirs}.{kind}": f"{ours}.{kind}"
            for theirs, ours in _LAYERS.items()
            for kind in ("weight", "bias")
        },
        thinking=Thinking("codi", STEPS, "<|start-latent|>", "<|end-latent|>"),
        added=("[PAD]", "<|start-latent|>", "<|end-latent|>"),
        before_start="",
        pad="[PAD]",
        dropped=dropped(found, _DROPPED),
    )
