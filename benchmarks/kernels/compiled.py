"""What the routing kernels take on NVIDIA GPUs, found by compiling them without one.

The signatures come from the public ops, called on tensors without memory, at the shapes of a Qwen3
in a batch. Not for a process that runs Triton in the interpreter.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sottovoce_kernels import Confidence, confidence, decide, layout, mix

from .launches import Launch, recorded

ARCHITECTURES = (80, 90, 100)
VOCAB, HIDDEN, SLOTS, CONTEXT, TOP_N = 151936, 4096, 256, 4096, 10
# Row counts that split a row of logits into 50, 30 and 4 parts.
BATCHES = (1, 33, 264)
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
TYPES = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.uint8: "*u8",
}


def _empty(*shape: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _float(*shape: int) -> torch.Tensor:
    return _empty(*shape, dtype=torch.float32)


def _long(*shape: int) -> torch.Tensor:
    return _empty(*shape, dtype=torch.int64)


def _call_ops(num_rows: int, dtype: torch.dtype) -> None:
    slots = layout.Slots(
        _empty(SLOTS, layout.NUM_INT_PARAMS),
        _float(SLOTS, layout.NUM_FLOAT_PARAMS),
        _empty(SLOTS, layout.MAX_STOP_IDS),
        _empty(SLOTS, layout.NUM_STATE),
    )
    ledger = layout.LedgerTensors(
        _empty(2 * SLOTS, CONTEXT * TOP_N),
        _float(2 * SLOTS, CONTEXT * TOP_N),
        _empty(2 * SLOTS, CONTEXT),
        _empty(2 * SLOTS, CONTEXT, layout.NUM_STATE),
        _empty(CONTEXT + 1, HIDDEN, dtype=dtype),
    )
    special = _empty(VOCAB, dtype=torch.uint8)
    markers = layout.Markers(_empty(1), _empty(1), _empty(1), special, _empty(6))
    ids, positions = _long(num_rows), _long(num_rows)
    conf: Confidence = confidence(_empty(num_rows, VOCAB, dtype=dtype), ids, slots)
    record = layout.Record.empty(num_rows, TOP_N, torch.device("meta"))
    decide(
        conf, _long(num_rows), ids, positions, _empty(SLOTS), _long(SLOTS), _empty(SLOTS, CONTEXT),
        slots, ledger, markers, record,
    )  # fmt: skip
    embeds, table = _empty(num_rows, HIDDEN, dtype=dtype), _empty(VOCAB, HIDDEN, dtype=dtype)
    mix(embeds, table, ids, _empty(num_rows + 1), positions, slots, ledger)


def _source(launch: Launch) -> tuple[ASTSource, dict[str, Any]]:
    """What Triton would compile for a launch, and its options; a 1 is a constant there too."""
    types: dict[str, str] = {}
    constants: dict[tuple[int], Any] = {}
    attributes: dict[tuple[int], list[list[Any]]] = {}
    options = dict(launch.keywords)
    for i, parameter in enumerate(launch.kernel.params):
        given = i < len(launch.arguments)
        value = launch.arguments[i] if given else options.pop(parameter.name)
        is_constant = parameter.is_constexpr or (isinstance(value, int) and value == 1)
        if is_constant:
            types[parameter.name], constants[i,] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            types[parameter.name] = TYPES[value.dtype]
        else:
            types[parameter.name] = "fp32" if isinstance(value, float) else "i32"
        is_multiple = isinstance(value, int) and value % 16 == 0
        if not is_constant and (isinstance(value, torch.Tensor) or is_multiple):
            attributes[i,] = [["tt.divisibility", 16]]
    return ASTSource(launch.kernel, types, constants, attributes), options


def _usage(cubin: bytes) -> dict[str, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(CUOBJDUMP), "-res-usage", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", text)
    assert found is not None, text
    registers, stack, local = (int(number) for number in found.groups())
    return {"registers": registers, "spilled_bytes": stack + local}


def loads(ptx: str) -> dict[str, int]:
    """Load instructions from global memory, by what a thread gets of one: 16 bytes, the most, or less."""
    widths = [
        int(found[1] or 1) * int(found[2]) // 8
        for found in re.finditer(r"ld\.global(?:\.(?!v\d|b\d)[\w:]+)*(?:\.v(\d))?\.b(\d+)", ptx)
    ]
    return {"loads_of_16_bytes": widths.count(16), "lesser_loads": len(widths) - widths.count(16)}


def compile_kernels(
    batches: tuple[int, ...] = BATCHES,
    architectures: tuple[int, ...] = ARCHITECTURES,
    **overrides: Any,
) -> list[dict[str, Any]]:
    """Every kernel at every shape for every architecture; `overrides` are compiler options."""
    rows: list[dict[str, Any]] = []
    for num_rows in batches:
        for dtype in (torch.bfloat16, torch.float32):
            with recorded() as launches:
                _call_ops(num_rows, dtype)
            for launch in launches:
                source, options = _source(launch)
                for arch in architectures:
                    target = GPUTarget("cuda", arch, 32)
                    binary = triton.compile(source, target=target, options=options | overrides)
                    rows.append(
                        {
                            "kernel": launch.name,
                            "arch": arch,
                            "dtype": str(dtype),
                            "grid": launch.grid,
                            "num_warps": binary.metadata.num_warps,
                            "shared_bytes": binary.metadata.shared,
                            **_usage(binary.asm["cubin"]),
                            **loads(binary.asm["ptx"]),
                        }
                    )
    return rows
