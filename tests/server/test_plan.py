"""`sottovoce plan`, against numbers worked out by hand and against files."""

from __future__ import annotations

import json
import math
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sottovoce_server.capacity import GIB, Load, Plan, memory, plan
from sottovoce_server.model_size import ModelSize, PlanError, read_model
from sottovoce_server.plan import main
from sottovoce_server.presets import GPU_GIB, PRESETS

ROOT = Path(__file__).parents[2]
REASONER = ROOT / "models" / "tiny-reasoner"


def planned(name: str, **load: Any) -> Plan:
    """A plan for 80 GiB GPUs."""
    given = {"gpu_gib": 80.0, "context": 32768, "concurrency": 64, **load}
    return plan(read_model(name), Load(**given))


# As published with the weights.
@pytest.mark.parametrize(
    ("name", "num"),
    [
        ("Qwen3-0.6B", 596_049_920),
        ("Qwen3-8B", 8_190_735_360),
        ("Qwen3-30B-A3B", 30_532_122_624),
        ("DeepSeek-R1-Distill-Qwen-7B", 7_615_616_512),
        ("Llama-3.2-1B", 1_235_814_400),
        ("Llama-3.1-70B", 70_553_706_496),
        ("gpt-oss-20b", 20_914_757_184),
    ],
)
def test_parameters(name: str, num: int) -> None:
    assert read_model(name).num_parameters == num


def test_parameters_of_a_directory() -> None:
    """Those that its file of weights holds."""
    with (REASONER / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    shapes = [tensor["shape"] for key, tensor in header.items() if key != "__metadata__"]
    model = read_model(str(REASONER))
    assert model == read_model(str(REASONER / "config.json"))
    assert model.num_parameters == sum(map(math.prod, shapes))


def test_key_value_cache_by_hand() -> None:
    """Qwen3-8B: 2 x 36 layers x 8 heads x 128 x 2 bytes = 144 KiB a token, 4.5 GiB for 32,768."""
    model = read_model("Qwen/Qwen3-8B")
    assert model.kv_bytes_per_token("bfloat16", 1) == 144 * 1024
    assert model.kv_bytes_per_token("fp8", 1) == 72 * 1024
    assert model.kv_bytes_per_token("bfloat16", 4) == 36 * 1024
    assert model.kv_bytes_per_token("bfloat16", 16) == 18 * 1024  # 8 heads, each on two GPUs
    assert model.kv_bytes(32768, "bfloat16", 1) == 4.5 * GIB


def test_a_sliding_window_bounds_the_cache() -> None:
    """gpt-oss-20b: 12 of its 24 layers keep 128 tokens, each of 2 x 8 x 64 x 2 = 2,048 bytes."""
    model = read_model("gpt-oss-20b")
    assert model.kv_bytes(100, "bfloat16", 1) == 100 * 24 * 2048
    assert model.kv_bytes(8192, "bfloat16", 1) == 12 * (8192 + 128) * 2048


def test_weights_by_hand() -> None:
    """bfloat16 takes 2 bytes; fp8 one, but for 2 x 151,936 x 4,096 of embeddings; mxfp4 17/32."""
    model = read_model("Qwen3-8B")
    assert model.weight_bytes("bfloat16") == 2 * 8_190_735_360
    assert model.weight_bytes("fp8") == 8_190_735_360 + 2 * 151_936 * 4096
    experts = 24 * 32 * 3 * 2880 * 2880
    others = 20_914_757_184 - experts
    assert read_model("gpt-oss-20b").weight_bytes("bfloat16") == experts * 17 / 32 + 2 * others


def test_our_buffers_by_hand() -> None:
    """A ledger position is 10 x 8 bytes of entries, 4 of their count, 4 of each state."""
    from sottovoce_kernels.layout import NUM_STATE

    load = Load(gpu_gib=80, context=4096, concurrency=8)
    found = memory(read_model("Qwen3-8B"), load, 1, 8)
    assert found.ledger == 16 * 4096 * (84 + 4 * NUM_STATE)
    assert found.vectors == 2**28 + 4096 * 2  # a quarter of a GiB, and a row that nobody reads
    assert found.soft_rows == 8192 * 4096 * 2
    assert found.kv_cache == 8 * 4096 * 144 * 1024
    sharded = memory(read_model("Qwen3-8B"), load, 2, 8)
    assert sharded.weights == found.weights / 2
    assert sharded.kv_cache == found.kv_cache / 2
    assert sharded.ledger == found.ledger  # every rank has the whole of it


def test_the_ledger_is_the_routers() -> None:
    """The sizes that the router itself reserves, with the budgets in force."""
    import torch

    from server.stubs import engine_config
    from sottovoce_router.capabilities import (
        DEFAULT_LEDGER_TOP_N,
        ledger_positions,
        ledger_rows,
        ledger_vectors,
    )
    from sottovoce_router.ledger import Ledger

    for gib, vector_gib in ((4.0, 0.25), (0.001, 0.0001)):
        sizes = {"ledger_gib": gib, "vector_ledger_gib": vector_gib}
        config = engine_config(additional_config={"sottovoce": sizes})
        positions = ledger_positions(config)
        entries = positions * DEFAULT_LEDGER_TOP_N
        model_config = config.model_config
        real = Ledger(
            ledger_rows(config), positions, entries, torch.device("cpu"), ledger_vectors(config),
            model_config.get_inputs_embeds_size(), model_config.dtype,
        )  # fmt: skip
        load = Load(
            gpu_gib=80, context=512, concurrency=8, ledger_gib=gib, vector_ledger_gib=vector_gib,
            dtype=str(model_config.dtype).removeprefix("torch."),
        )  # fmt: skip
        model = replace(read_model("Qwen3-8B"), hidden=model_config.get_inputs_embeds_size())
        found = memory(model, load, 1, 8)
        assert found.ledger + found.vectors == real.num_bytes


def test_replicas_by_hand() -> None:
    """73.6 GiB usable less 15.26 of weights and about 1.6 of the rest: 12 sequences of 4.5 GiB."""
    found = planned("Qwen3-8B")
    assert (found.tensor_parallel, found.num_replicas, found.num_seqs) == (1, 6, 11)
    assert found.memory.total < 80 * 0.92 * GIB
    assert planned("Qwen3-8B", concurrency=12).num_gpus == 1
    assert planned("Qwen3-8B", concurrency=13).num_gpus == 2


def test_shards_where_they_save_gpus() -> None:
    """Qwen3-32B leaves 73.6 - 61.0 - 2 GiB of one GPU, for one sequence of 8 GiB; two GPUs hold 10."""
    assert planned("Qwen3-32B", concurrency=1).tensor_parallel == 1
    found = planned("Qwen3-32B", concurrency=10)
    assert (found.tensor_parallel, found.num_replicas) == (2, 1)
    assert planned("Qwen3-32B", concurrency=2, tensor_parallel=4).num_gpus == 4


@pytest.mark.parametrize(
    ("load", "words"),
    [
        ({"context": 50_000}, ("--context", "50000", "40960")),
        ({"gpu_gib": 4.0}, ("GiB", "--tensor-parallel-size", "--context")),
        ({"tensor_parallel": 3}, ("--tensor-parallel-size", "3", "divisor")),
        ({"concurrency": 0}, ("--concurrency", "0")),
        ({"utilization": 1.5}, ("--gpu-memory-utilization", "1.5")),
    ],
)
def test_no_plan(load: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(PlanError) as raised:
        planned("Qwen3-32B", **load)
    assert [word for word in words if word not in str(raised.value)] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "deepseek_v3"}, ("deepseek_v3", "llama")),
        ({"hidden_size": "wide"}, ("hidden_size", "'wide'")),
        ({"quantization_config": {"quant_method": "awq"}}, ("awq", "--dtype fp8")),
    ],
)
def test_not_a_known_model(change: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(PlanError) as raised:
        ModelSize.from_config("it", "it", {**PRESETS["Qwen3-8B"], **change})
    assert [word for word in words if word not in str(raised.value)] == []


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["Qwen3-8B", "--gpu", "H100", "--context", "32768", "--concurrency", "64"]
    main([*command, "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert (shown["gpus"], shown["kv_bytes_per_token"]) == (6, 144 * 1024)
    assert shown["bytes_per_gpu"]["weights"] == 2 * 8_190_735_360
    main(command)
    table = capsys.readouterr().out
    assert "6 GPU(s): 6 replica(s) of 1, 11 sequences of 32768 tokens each" in table
    assert "KV cache                               49.500 GiB a GPU" in table
    assert "--max-num-seqs 11" in table


@pytest.mark.parametrize(
    ("args", "word"),
    [(["nix", "--gpu", "80"], "no model nix"), (["Qwen3-8B", "--gpu", "abacus"], "abacus")],
)
def test_what_cannot_be_planned_exits(args: list[str], word: str) -> None:
    with pytest.raises(SystemExit) as raised:
        main([*args, "--context", "4096", "--concurrency", "1"])
    assert word in str(raised.value)
    assert str(raised.value).startswith("sottovoce plan: ")


def row(name: str) -> str:
    """A model's row of the table in deploy/README.md."""
    found = planned(name, gpu_gib=GPU_GIB["H100"], concurrency=32)
    tp, bytes_per_gpu = found.tensor_parallel, found.memory
    ours = (
        bytes_per_gpu.ledger + bytes_per_gpu.vectors + bytes_per_gpu.soft_rows + bytes_per_gpu.slots
    )
    cells = (
        name,
        f"{bytes_per_gpu.weights * tp / GIB:.1f}",
        f"{found.model.kv_bytes_per_token('bfloat16', 1) / 1024:g}",
        f"{found.model.kv_bytes(32768, 'bfloat16', 1) / GIB:.2f}",
        f"{ours / GIB:.2f}",
        tp,
        found.num_seqs,
        found.num_replicas,
        found.num_gpus,
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def test_the_table_of_sizes() -> None:
    text = (ROOT / "deploy" / "README.md").read_text().partition("| model | weights |")[2]
    shown = text.partition("\n\n")[0].splitlines()[2:]
    assert len(shown) == 9
    assert shown == [row(line.split(" | ")[0].removeprefix("| ")) for line in shown]


def test_a_directory_is_itself_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = Path("mine", "qwen3-8b")
    shutil.copytree(REASONER, mine, ignore=shutil.ignore_patterns("shortcuts"))
    assert read_model(str(mine)).num_parameters == read_model(str(REASONER)).num_parameters
    main([str(mine), "--gpu", "H100", "--context", "512", "--concurrency", "2"])
    assert "\nsottovoce serve mine/qwen3-8b --tensor-parallel-size 1 " in capsys.readouterr().out


def test_the_line_to_serve_names_a_model_that_the_hub_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["Qwen3-8B", "--gpu", "H100", "--context", "4096", "--concurrency", "2"])
    assert "\nsottovoce serve Qwen/Qwen3-8B --tensor-parallel-size 1 " in capsys.readouterr().out
