"""The plan, as a user meets it at the command line."""

import os
import re
import subprocess
import sys

from sm70lib.study.params import ROOT
from tests.toy import cpu_of_children


def sm70lib(*words: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "sm70lib", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | environment,
    )


def test_the_command_prints_one_screen(tmp_path):
    done = sm70lib(
        "plan",
        "params/sm70.yml",
        SM70_HUB=str(tmp_path),
        HF_HOME=str(tmp_path),
        CUDA_VISIBLE_DEVICES="",
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    head = next(line for line in lines if "part" in line)
    assert re.split(r"  +", head.strip()) == [
        "part",
        "GPU",
        "RAM",
        "disk",
        "hours",
        "dollars",
        "here",
        "12 GB",
        "16 GB",
        "24 GB",
        "40 GB",
        "48 GB",
        "80 GB",
        "141 GB",
    ]
    table = [line for line in lines if re.match(r"0\d  ", line)]
    assert len(table) == 17 and len(lines) <= 40 and {len(line) for line in table} == {len(head)}
    assert (
        len(head) <= 140
        and "gated, ask for access" in done.stdout
        and "by hand, for medsafety" in done.stdout
    )
    assert "03 stage 1 sft" in done.stdout and "several GPUs by FSDP" in done.stdout


def test_the_runner_ends_at_once_where_a_file_is_to_be_fetched_by_hand(tmp_path):
    before = cpu_of_children()
    done = sm70lib(
        "run",
        "params/sm70.yml",
        SM70_OUTPUTS=str(tmp_path / "outputs"),
        SM70_HUB=str(tmp_path / "hub"),
    )
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert (
        "error: data_root is hub, which does not have all" in done.stderr
        and "med_safety_bench" in done.stderr
    )
    assert cpu_of_children() - before < 30 and not (tmp_path / "outputs/sm70").exists()
