"""Starts a compiled engine on the CPU as a user does, and says what it made and what it started.

Arguments: a model, and the executor to ask for (`default` for none).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from scripts import say

PROMPT = [3, 100, 120, 90]  # the first opens thinking
# Asked for before vLLM is imported, as `sottovoce serve` does.
os.environ["VLLM_CPU_NUM_OF_RESERVED_CPU"] = "0"


def _environment(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _titles(process: Any) -> list[str]:
    """The processes of vLLM below one, by what they call themselves."""
    found = [" ".join(child.cmdline()).strip() for child in process.children(recursive=True)]
    return sorted(name for name in found if name.startswith("VLLM::"))


def main() -> None:
    """Start, generate a few soft steps, report."""
    import psutil
    from vllm import LLM, SamplingParams

    model, executor = sys.argv[1:]
    llm = LLM(
        model, dtype="float32", max_model_len=256, max_num_seqs=4, max_num_batched_tokens=256,
        kv_cache_memory_bytes=64 << 20, reasoning_parser="deepseek_r1",
        distributed_executor_backend=None if executor == "default" else executor,
    )  # fmt: skip
    sampling = SamplingParams(
        max_tokens=24, temperature=0.0, ignore_eos=True, extra_args={"reasoning_mode": "latent"}
    )
    (output,) = llm.generate({"prompt_token_ids": PROMPT}, sampling, use_tqdm=False)
    me = psutil.Process()
    engine = next(c for c in me.children() if "EngineCore" in c.cmdline()[0])
    bound = _environment(engine.pid).get("OMP_NUM_THREADS")
    say(
        {
            "prompt": PROMPT,
            "tokens": list(output.outputs[0].token_ids),
            "processes": _titles(me),
            "threads": bound,
            "cores": len(os.sched_getaffinity(0)),
        }
    )


if __name__ == "__main__":
    main()
