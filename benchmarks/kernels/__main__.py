"""`make bench-kernels`: bytes, resources and time of a routing step against a read of its logits."""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterator
from functools import partial

import torch

from ..pairing import paired, report
from ..rows import write
from .batch import Batch, Shape
from .clock import Call, Clock, cpu_seconds, gpu_seconds, num_copies
from .roof import READS, new_output, read

ARCHITECTURES = (80, 90, 100)
SIZES: dict[str, dict[str, list[int]]] = {
    "cpu": {"rows": [1, 8, 64], "vocab": [32768, 151936], "top_n": [1, 10, 32]},
    "gpu": {
        "rows": [1, 4, 16, 64, 256], "vocab": [32768, 131072, 262144], "top_n": [1, 10, 32],
    },
}  # fmt: skip
_HIDDEN = {"cpu": 576, "gpu": 4096}  # SmolLM2's, and that of an 8B model
_DTYPE = {"cpu": torch.float32, "gpu": torch.bfloat16}
_L3 = "SC_LEVEL3_CACHE_SIZE"


def shapes(device: str, args: argparse.Namespace) -> Iterator[Shape]:
    """All combinations of the sizes that were asked for, or of the device's own."""
    sizes = (getattr(args, name) or SIZES[device][name] for name in ("rows", "vocab", "top_n"))
    for rows, vocab, top_n in itertools.product(*sizes):
        yield Shape(rows, vocab, top_n, _HIDDEN[device], _DTYPE[device])


def _parameters(shape: Shape) -> dict[str, object]:
    dtype = str(shape.dtype).removeprefix("torch.")
    return {"rows": shape.rows, "vocab": shape.vocab, "top_n": shape.top_n,
            "hidden": shape.hidden, "dtype": dtype}  # fmt: skip


def count_bytes(args: argparse.Namespace) -> None:
    """A row for every shape of one row of logits, of arithmetic alone; a batch is its multiple."""
    for shape in (s for s in shapes("gpu", args) if s.rows == 1):
        over = round(shape.over_read(), 4)
        row = {"name": "kernels-bytes", "parameters": _parameters(shape), "unit": "bytes"}
        write("kernels-bytes", {**row, **shape.num_bytes(), "over_read": over})
        print(f"vocabulary {shape.vocab}, top {shape.top_n}: {over:.3f} of a read")


def count_resources() -> None:
    """A row for every kernel, shape and architecture, of what the compiler says."""
    from .compiled import compile_kernels

    for found in compile_kernels(architectures=ARCHITECTURES):
        write("kernels-static", {"name": "kernels-static", **found})
        print(", ".join(f"{k} {v}" for k, v in found.items()))


def _caches(device: str) -> int:
    if device == "gpu":
        return int(torch.cuda.get_device_properties(0).L2_cache_size)
    # Virtual machines often do not say, in one way or another.
    found = os.sysconf(_L3) if _L3 in os.sysconf_names else 0
    return found if found > 0 else 32 << 20


def _fastest_read(batch: Batch, out: torch.Tensor, clock: Clock, copies: int) -> Call:
    def call(how: tuple[int, int]) -> Call:
        return lambda copy: read(batch.logits[copy], out, how)

    ways = READS if batch.logits.is_cuda else READS[:1]
    return min((call(how) for how in ways), key=lambda way: clock(way, copies))


def measure(shape: Shape, device: str, rounds: int) -> None:
    """Rows of the seconds of a step, and of its pass over the logits, over those of a read of them."""
    clock: Clock = gpu_seconds if device == "gpu" else cpu_seconds
    place = torch.device("cuda" if device == "gpu" else "cpu")
    num_bytes = shape.num_bytes()["read"]
    copies = num_copies(num_bytes, _caches(device))
    batch, out = Batch(shape, copies, place), new_output(place)
    found = {**_parameters(shape), "copies": copies}
    if device == "gpu":
        found["gpu"] = torch.cuda.get_device_name()
    roof = _fastest_read(batch, out, clock, copies)
    for metric, call in (("step", batch.step), ("confidence", batch.confidence)):
        pairs = paired(
            partial(clock, call, copies), partial(clock, roof, copies), rounds, rest_s=0.0
        )
        report(f"kernels-{device}", found, f"{metric} over a read of its logits", pairs)
    seconds = sorted(seconds for _, seconds in pairs)[len(pairs) // 2]
    print(f"  the read: {num_bytes / seconds / 1e9:.1f} GB/s")


def main(argv: list[str] | None = None) -> None:
    """Do what is named, or all that this machine can."""
    parser = argparse.ArgumentParser(prog="make bench-kernels", description=__doc__)
    add = parser.add_argument
    add("parts", nargs="*", choices=["bytes", "static", "cpu", "gpu", []])
    for name in ("rows", "vocab", "top-n"):
        add(f"--{name}", type=int, nargs="+")
    add("--rounds", type=int, default=7)
    args = parser.parse_args(argv)
    own = ["bytes", "static", "gpu" if torch.cuda.is_available() else "cpu"]
    for part in args.parts or own:
        if part == "bytes":
            count_bytes(args)
        elif part == "static":
            count_resources()
        else:
            for shape in shapes(part, args):
                measure(shape, part, args.rounds)


if __name__ == "__main__":
    main()
