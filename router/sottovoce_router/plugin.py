"""The entry point `vllm.general_plugins`: runs in every vLLM process, more than once."""

from __future__ import annotations

import gc
import multiprocessing


def _spare_imports() -> None:
    """In a process of vLLM's, leave what is imported out of the many garbage collections of a start.

    They would take seconds. The process of a user's own program is left alone.
    """
    if multiprocessing.parent_process() is not None:
        gc.freeze()


def register() -> None:
    """Put the hooks in place. vLLM only logs what goes wrong here, so tests look for the effect."""
    from vllm.platforms import current_platform

    from . import cpu_compile, cpu_engine, cpu_process, seam
    from .latent import hooks as latent_hooks
    from .shortcuts import hooks as shortcut_hooks

    seam.check_version()
    if current_platform.is_cpu():
        cpu_engine.install()
        cpu_process.install()
        cpu_compile.install()
    seam.install()
    latent_hooks.install()
    shortcut_hooks.install()
    _spare_imports()
