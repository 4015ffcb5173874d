"""Checks of the shortcuts' arithmetic with vLLM's own kernels, in a process that loaded the plugin.

Says, for each check, its name and what went wrong, or null.
"""

from __future__ import annotations

from pathlib import Path

import torch

from scripts import run_checks
from sottovoce_router.shortcuts import norms
from sottovoce_router.shortcuts.manifest import Manifest
from sottovoce_router.shortcuts.modules import Shortcuts
from sottovoce_training.shortcuts import modules as trained

LAYERS, WIDTH, RANK, INNER = 3, 64, 8, 4
EPS = trained.NORM_EPS


def check_norms_are_those_of_vllm() -> None:
    """One kernel a norm, and vLLM's own steps where it does not fit."""
    from vllm import ir
    from vllm.platforms import current_platform

    current_platform.import_ir_kernels()  # as an engine does when it is configured
    norms.choose(ir.ops)
    norm, both = ir.ops.rms_norm, ir.ops.fused_add_rms_norm
    x, residual, weight = torch.randn(5, WIDTH), torch.randn(5, WIDTH), torch.rand(WIDTH)
    assert norm.dispatch(x, weight, EPS).provider == norms.PROVIDER
    assert norm.dispatch(x[:, ::2], weight[::2], EPS).provider == "native", "it has strides"
    assert norm.dispatch(x, weight.bfloat16(), EPS).provider == "native"
    assert both.dispatch(x, residual, weight, EPS).provider == norms.PROVIDER
    native = norm.impls["native"].impl_fn
    for rows in (x, x[:, ::2], x.view(5, 2, -1)):
        scale = weight[: rows.shape[-1]]
        torch.testing.assert_close(norm(rows, scale, EPS), native(rows, scale, EPS))
    want = both.impls["native"].impl_fn(x.clone(), residual.clone(), weight, EPS)
    torch.testing.assert_close(both.maybe_inplace(x, residual, weight, EPS), want)


def _both_kinds(variant: trained.Variant) -> tuple[Shortcuts, trained.Shortcuts]:
    manifest = Manifest(
        Path(), 2, 0.6, (2,), variant.depth, variant.step, LAYERS, WIDTH, RANK, INNER, EPS
    )
    ours = trained.Shortcuts(trained.Sizes(LAYERS, WIDTH, RANK, INNER), variant)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    served = Shortcuts(manifest).float()
    served.load(ours.state_dict())
    return served, ours


@torch.inference_mode()
def check_parts_are_those_of_training() -> None:
    """Of every layer, on one row and on many, in float32 and from bfloat16 states."""
    for variant in (trained.Variant(), trained.Variant(depth=False)):
        served, ours = _both_kinds(variant)
        for index, entrance in enumerate(served.entrances):
            for x in (torch.randn(1, WIDTH), torch.randn(7, WIDTH).bfloat16()):
                opened, before = entrance.opened(x), torch.randn_like(x)
                w = entrance.gate(opened).sigmoid()
                torch.testing.assert_close(w, ours.routers[index](x.float()))
                down = entrance.down(x, opened) + served.across(index, before)
                want = ours.shortcut(index, x.float(), before.float())
                torch.testing.assert_close(down, want, atol=1e-5, rtol=1e-5)
        assert len(served.entrances) == LAYERS


if __name__ == "__main__":
    torch.manual_seed(0)
    run_checks(globals())
