"""The entry point `vllm.general_plugins`: runs in every vLLM process, more than once."""

from __future__ import annotations

import gc
import multiprocessing


def _spare_imports() -> None:
    """In a process that another started, as vLLM's are, leave imports out of a start's collections.

    Those would take seconds. The process that a user's program begins in is left alone.
    """
    if multiprocessing.parent_process() is not None:
        gc.freeze()


def register() -> None:
    """Put the hooks in place. vLLM only logs what goes wrong here, so tests look for the effect."""
    from vllm.platforms import current_platform

    from . import cpu_compile, cpu_engine, cpu_process, record_hooks, seam
    from .latent import hooks as latent_hooks
    from .shortcuts import hooks as shortcut_hooks

    seam.check_version()
    if current_platform.is_cpu():
        cpu_engine.install()
        cpu_process.install()
        cpu_compile.install()
    for hooks in (seam.HOOKS, record_hooks.HOOKS, latent_hooks.HOOKS, shortcut_hooks.HOOKS):
        seam.install(hooks)
    _spare_imports()
