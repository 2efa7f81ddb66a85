"""The training benchmarks run at a small size, and compare trainings that learn the same.

Speed is not tested here.
"""

import json
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from sm70lib.sizes import shapes
from sm70lib.study.params import ROOT
from tests.benchmarks import gpu_70b

LENGTHS = [64, 128]


@pytest.fixture(scope="module")
def tiny_70b(tmp_path_factory) -> dict:
    """What gpu_70b.py finds at the tiny shape."""
    out = tmp_path_factory.mktemp("gpu") / "gpu.json"
    words = [
        "--shape",
        "tiny",
        "--rows",
        "5",
        "--rank",
        "4",
        "--lengths",
        *map(str, LENGTHS),
        "--out",
        str(out),
    ]
    done = subprocess.run(
        [sys.executable, "tests/benchmarks/gpu_70b.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (whole,) = json.loads(out.read_text())
    return whole


def test_every_setting_of_the_70b_script_is_measured(tiny_70b):
    rows = tiny_70b["results"]
    assert len(rows) == len(LENGTHS) * 7 + 1 and not [row for row in rows if "failed" in row]
    assert {row["recipe"] for row in rows} == {"ours", "ours_32_bits", "tutorial"}
    assert set(tiny_70b["ratios"]) == {"64", "128"} and {row["sequences"] for row in rows} == {
        1,
        2,
        4,
    }
    assert (
        tiny_70b["ratio"]
        == tiny_70b["ratios"]["128"]
        == pytest.approx(tiny_70b["ours"] / tiny_70b["theirs"], abs=0.01)
    )
    for row in rows:
        assert (
            row["peak_gib"] > 0
            and row["useful_tokens_per_second"] > 0
            and row["share_of_matrix_rate"] > 0
        )


def test_all_settings_of_one_length_do_the_same_work(tiny_70b):
    for length in LENGTHS:
        rows = [row for row in tiny_70b["results"] if row["length"] == length]
        assert len({row["tokens"] for row in rows}) == 1, "useful tokens, whatever the layout"
        single = [row["first_loss"] for row in rows if row["layout"] != "packed"]
        packed = [
            row["first_loss"] for row in rows if row["layout"] == "packed" and row["sequences"] == 1
        ]
        assert (
            len(single) == 3
            and max(single) - min(single) < 0.01
            and len(packed) == 2 + (length == LENGTHS[1])
        )
        assert max(packed) - min(packed) < 1e-3, (
            "neither recomputing nor the adapter's type changes the first loss"
        )


def test_the_shape_is_that_of_llama_2_70b():
    with torch.device("meta"):
        whole = AutoModelForCausalLM.from_config(LlamaConfig(**gpu_70b.SHAPES["70b"]))
    weights = sum(weight.numel() for weight in whole.parameters())
    assert weights == shapes.shape("meta-llama/Llama-2-70b-hf").weights == 68_976_648_192


def test_the_cpu_benchmark_writes_its_files(tmp_path):
    words = ["--rows", "8", "--repeats", "1", "--width", "64", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "tests/benchmarks/training.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "training.json").read_text())
    assert len(found) == 4 and len({one["name"] for one in found}) == 4
    for one in found:
        assert {
            "name",
            "work",
            "ours",
            "theirs",
            "unit",
            "ratio",
            "spread",
            "goal",
            "n",
            "commit",
            "hardware",
            "versions",
            "seconds",
        } <= set(one) and one["n"] == 1
        ours, other = one["losses"].values()
        assert ours <= other * 1.02
