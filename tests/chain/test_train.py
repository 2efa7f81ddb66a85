"""Training in processes of its own: stages after stages, two processes, a base in pieces."""

import json
import math
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from sm70lib.corpus import templates
from sm70lib.models import layers, loading
from sm70lib.study import files
from sm70lib.study.params import ROOT
from sm70lib.training import launch
from tests.tuning import staged, study, train, weights


def test_the_notebook_side_runs_a_stage_and_watches_it(tmp_path):
    p, seen = study(tmp_path, sft_steps=6, sft_warmup=0.3), []
    stage = launch.run(p, tmp_path, 1, "sft", watch=lambda metrics: seen.append(len(metrics)))
    assert json.loads((stage / "done.json").read_text())["steps"] == 6 and max(seen) >= 6
    check = json.loads((stage / "first-step.json").read_text())
    assert check["max_logit_difference"] < 1e-5 < check["max_logit_change"]
    total = sum(weight.numel() for weight in weights(tmp_path).values())
    assert layers.adapter_table(stage / "adapter")["parameters"].sum() == total
    launch.publish(stage, tmp_path)
    for adapter in (stage / "adapter", tmp_path / "adapter"):
        assert json.loads((adapter / "template.json").read_text()) == {
            "name": "medalpaca",
            "sha256": templates.digest("medalpaca"),
        }
    digest = files.digest(stage / "adapter")
    (stage / "adapter/template.json").unlink()
    assert files.digest(stage / "adapter") == digest, "the weights alone tell adapters apart"


def test_a_finished_stage_starts_no_process(tmp_path, monkeypatch):
    p, seen = study(tmp_path, sft_steps=3), []
    stage = launch.run(p, tmp_path, 1, "sft")
    launch.publish(stage, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr(subprocess, "Popen", None)
    assert (
        launch.run(p, tmp_path, 1, "sft", watch=lambda metrics: seen.append(len(metrics))) == stage
    )
    launch.publish(stage, tmp_path)
    assert (
        {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        and seen
        and seen[0] >= 3
    )
    shutil.rmtree(stage / "adapter")
    with pytest.raises(TypeError):  # the process that would make it again
        launch.run(p, tmp_path, 1, "sft")


def test_each_stage_goes_on_from_the_one_before_and_dpo_begins_at_ln_2(tmp_path):
    stages = ["cpt", "sft", "dpo", "dpo"]
    p = staged(
        tmp_path,
        train_stages=stages,
        dpo_lr=3e-3,
        dpo_steps=12,
        cpt_packing=True,
        data_max_length=128,
    )
    folders = [train(p, tmp_path, number, kind) for number, kind in enumerate(stages, 1)]
    assert [folder.name for folder in folders] == ["1-cpt", "2-sft", "3-dpo", "4-dpo"]
    adapters = [load_file(folder / "adapter/adapter_model.safetensors") for folder in folders]
    assert len(adapters[0]) == 28 and all(
        adapter.keys() == adapters[0].keys() for adapter in adapters
    )
    told = [templates.trained_in(folder / "adapter", "medalpaca") for folder in folders]
    assert told == ["medalpaca"] * 4
    for before, after in zip(adapters, adapters[1:]):  # moved on from there, not begun anew
        moved = sum((after[name] - before[name]).norm() ** 2 for name in after) ** 0.5
        assert 0 < moved < 0.5 * sum(before[name].norm() ** 2 for name in before) ** 0.5
    for folder in folders[2:]:
        found = launch.metrics(folder)
        assert found["loss"].dropna().iloc[0] == pytest.approx(math.log(2), abs=1e-6)
        held_out = found["eval_loss"].dropna()
        assert (
            held_out.iloc[-1] < min(math.log(2), held_out.iloc[0])
            and found["rewards/margins"].notna().sum() == 12
        )
        assert json.loads((folder / "first-step.json").read_text())["max_logit_difference"] < 1e-5
        assert not list((folder / "adapter").glob("ref*")), (
            "the reference is no part of the adapter"
        )
    assert all(launch.metrics(folder)["eval_loss"].notna().any() for folder in folders)


def test_two_processes_train_like_one_with_twice_the_accumulation(tmp_path):
    found = []
    for processes, launcher in (
        (1, "python"),
        (2, "torchrun --standalone --nproc_per_node 2"),
        (2, "accelerate launch --config_file params/accelerate/ddp.yml --main_process_port 0"),
    ):
        folder = tmp_path / launcher.split()[0]
        p = study(
            folder, sft_steps=4, sft_batch_size=8, train_micro_batch_size=2, train_launcher=launcher
        )
        stage = launch.run(p, folder, 1, "sft") if processes > 1 else train(p, folder)
        assert json.loads((stage / "done.json").read_text())["world_size"] == processes
        found.append(
            (launch.metrics(stage).set_index("step")["loss"].dropna().tolist(), weights(folder))
        )
        steps = [
            line for line in (stage / "metrics.jsonl").read_text().splitlines() if '"loss"' in line
        ]
        assert len(steps) == 4, "one process writes"
    (losses, one), *others = found
    for other, two in others:
        assert losses == pytest.approx(other, rel=1e-4)
        assert len(one) == 28 and max((one[name] - two[name]).abs().max() for name in one) < 1e-3


def test_a_base_stored_for_fsdp_trains_as_any_other_does(tmp_path):
    """The launcher file for FSDP + QLoRA: NF4 weights are stored in 16 bits.

    Without GPUs accelerate 1.15 trains by DDP, so that each process has all of the base. Made to
    share it (on_cpu.py), the two processes train, and PyTorch fails at the first checkpoint.
    """
    settings = yaml.safe_load((ROOT / "params/accelerate/fsdp-qlora.yml").read_text()) | {
        "use_cpu": True
    }
    settings["fsdp_config"] |= {
        "fsdp_cpu_ram_efficient_loading": False,
        "fsdp_sync_module_states": False,
    }
    (tmp_path / "fsdp.yml").write_text(yaml.safe_dump(settings))
    changes = {
        "sft_steps": 6,
        "sft_batch_size": 4,
        "train_micro_batch_size": 2,
        "quant_compute_dtype": "bfloat16",
        "lora_dtype": "bf16",
    }
    found = {}
    for launcher in (
        "python",
        f"accelerate launch --config_file {tmp_path}/fsdp.yml --main_process_port 0",
    ):
        folder = tmp_path / launcher.split()[0]
        p = study(folder, train_launcher=launcher, **changes)
        stage = train(p, folder) if launcher == "python" else launch.run(p, folder, 1, "sft")
        world_size = json.loads((stage / "done.json").read_text())["world_size"]
        assert templates.trained_in(stage / "adapter", "medalpaca") == "medalpaca"
        found[world_size] = (
            launch.metrics(stage).set_index("step")["loss"].dropna(),
            weights(folder),
        )
    (losses, whole), (others, pieces) = found[1], found[2]
    assert len(losses) == 6 and losses.to_numpy() == pytest.approx(others.to_numpy(), rel=1e-2)
    assert len(pieces) == 28 and {n: w.shape for n, w in pieces.items()} == {
        n: w.shape for n, w in whole.items()
    }
    moved = [
        torch.nn.functional.cosine_similarity(
            pieces[n].float().flatten(), whole[n].float().flatten(), dim=0
        )
        for n in pieces
        if "lora_B" in n
    ]  # which were zero
    assert len(moved) == 14 and min(moved) > 0.8


def test_processes_that_share_the_base_keep_checkpoints_of_the_adapter_alone(tmp_path, monkeypatch):
    """FSDP2 over a base in 16 or 32 bits. A checkpoint of the base too would be as large as it.

    03 reads how many weights the first step has moved: matrices B, as A stays while B is zero.
    """
    settings = yaml.safe_load((ROOT / "params/accelerate/fsdp2-full.yml").read_text())
    (tmp_path / "fsdp2.yml").write_text(yaml.safe_dump(settings | {"use_cpu": True}))
    launcher = f"accelerate launch --config_file {tmp_path}/fsdp2.yml --main_process_port 0"
    command = [*launch.launcher(launcher), "tests/chain/on_cpu.py"]
    monkeypatch.setattr(launch, "launcher", lambda line: command)
    changes = {"sft_steps": 3, "sft_batch_size": 4, "train_micro_batch_size": 2}
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    one = train(study(alone, quant_type="none", **changes), alone)
    p = study(shared, quant_type="none", train_launcher=launcher, **changes)
    stage = launch.run(p, shared, 1, "sft")
    assert json.loads((stage / "done.json").read_text())["world_size"] == 2
    moved = json.loads((stage / "first-step.json").read_text())
    assert moved == {"weights": 28, "weights_moved": 14}
    losses = [launch.metrics(folder)["loss"].dropna().tolist() for folder in (one, stage)]
    assert len(losses[0]) == 3 and losses[0] == pytest.approx(losses[1], rel=1e-4)
    whole, adapter = weights(alone), weights(shared)
    assert whole.keys() == adapter.keys() and len(adapter) == 28
    assert max((whole[name] - adapter[name]).abs().max() for name in whole) < 1e-4
    checkpoint = stage / "checkpoint-3"
    assert not [path for path in checkpoint.iterdir() if path.suffix in (".bin", ".safetensors")]
    kept = weights_in_pieces(checkpoint / "pytorch_model_fsdp_0", tmp_path)
    assert kept.keys() == adapter.keys(), "and nothing of the base"
    assert all(torch.equal(kept[name], adapter[name]) for name in adapter)
    sizes = [path.stat().st_size for path in (checkpoint / "pytorch_model_fsdp_0").iterdir()]
    tensors = sum(weight.nbytes for weight in adapter.values())
    assert sum(sizes) < tensors + 2 * 28 * 2500, "each piece has a header of its own"
    bare, tuned = (
        loading.load(shared / "base/model", p, given) for given in (None, stage / "adapter")
    )
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert (bare(input_ids=ids).logits - tuned(input_ids=ids).logits).abs().max() > 1e-3


def weights_in_pieces(folder: Path, scratch: Path) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint of FSDP, by the names that PEFT gives them on disk."""
    dcp_to_torch_save(folder, scratch / "whole.pt")
    whole = torch.load(scratch / "whole.pt", weights_only=True)
    return {name.replace(".default", ""): w for name, w in whole.get("model", whole).items()}


def test_two_machines_train_together(tmp_path):
    """The launcher file for two machines, both of them this one: a rank each, one rendezvous."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = (
        "accelerate launch --config_file params/accelerate/two-nodes.yml --num_processes 2 "
        f"--main_process_ip 127.0.0.1 --main_process_port {port}"
    )
    p = study(tmp_path, sft_steps=4, sft_batch_size=4, train_launcher=launcher)
    stage = launch.write_description(p, tmp_path, 1, "sft", 0)
    second = [*launch.launcher(f"{launcher} --machine_rank 1"), "-m", "sm70lib.training.train"]
    with subprocess.Popen([*second, str(stage)], cwd=ROOT) as other:
        launch.run(p, tmp_path, 1, "sft")
        assert other.wait(120) == 0
    assert json.loads((stage / "done.json").read_text())["world_size"] == 2
    assert len(launch.metrics(stage)["loss"].dropna()) == 4 and len(weights(tmp_path)) == 28
