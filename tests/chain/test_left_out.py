"""A model that does not fit is not loaded, and no step holds a base twice: the notebooks' own
cells, on a toy base.
"""

import json
import os
import re
import subprocess
import sys
import weakref
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model

from sm70lib import benchmarks
from sm70lib.analysis import accuracies, frames, quoted
from sm70lib.asking import prompts, runs
from sm70lib.evaluation import batches, candidates, memory_check, one_model, scoring
from sm70lib.models import loading, writing
from sm70lib.presentation import names
from sm70lib.sizes import budget_scoring
from sm70lib.statistics import stats
from sm70lib.steps import status, steps
from sm70lib.study import memory, params
from sm70lib.study.params import ROOT, StudyError
from tests import small, synthetic
from tests.asked import run_of

EVAL = {
    "eval_benchmarks": ["medqa_4"],
    "eval_protocols": ["sm70-2023"],
    "eval_shots": [0],
    "eval_limit": None,
    "eval_caps": {},
    "eval_batch_tokens": 2048,
    "eval_models": {},
    "eval_own": ["base", "base-nf4", "stages", "merged", "tuned"],
    "eval_launcher": "python",
    "eval_primary_protocol": "sm70-2023",
    "eval_primary_shots": 0,
    "ask_question": None,
    "ask_max_new_tokens": 3,
}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study as 03 leaves it, and its parameters."""
    monkeypatch.setenv("SM70_OUTPUTS", str(tmp_path))
    monkeypatch.delenv(memory.LIMIT, raising=False)
    folder = tmp_path / "small"
    p = small.base(folder, base_intermediate_size=2048, **EVAL)
    adapter = get_peft_model(
        loading.load(folder / "base/model", p),
        LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    for name, weight in adapter.named_parameters():
        if "lora_B" in name:  # an adapter that says something else than the base
            torch.nn.init.normal_(weight, std=0.5, generator=torch.Generator().manual_seed(0))
    for place in ("adapter", "stages/1-sft/adapter"):
        adapter.save_pretrained(folder / place)
    benchmarks.save(folder / "data/benchmarks", "medqa_4", run_of(12).items)
    benchmarks.save(folder / "data/benchmarks", "medqa_4.pool", [])
    return folder, p


def cells(name: str, p, folder) -> dict:
    """Runs a notebook's own cells in this process, all but those that begin and end a step.

    Returns what they assigned.
    """

    def path(relative: str):
        place = folder / relative
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    step = SimpleNamespace(folder=folder, path=path, finish=lambda *_, **notes: said.append(notes))
    said, scope = [], {"p": p, "steps": steps, "step": step, "display": lambda *_: None}
    for cell in json.loads((ROOT / f"notebooks/{name}.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code" and cell["id"] not in ("params", "check", "begin"):
            exec("".join(cell["source"]), scope)
    return scope | {"said": said}


@pytest.fixture
def alive(monkeypatch):
    """How many bases were alive after each load."""
    found, bases, real = [], weakref.WeakSet(), loading.load

    def counted(*given, **named):
        loaded = real(*given, **named)
        bases.add(loaded.get_base_model() if hasattr(loaded, "get_base_model") else loaded)
        found.append(len(bases))
        return loaded

    monkeypatch.setattr(loading, "load", counted)
    return found


@pytest.mark.parametrize("name, loads", [("02_load_4bit", 2), ("04_eval", 3), ("07_ask", 1)])
def test_one_base_is_alive_at_a_time(study, alive, name, loads):
    folder, p = study
    cells(name, p, folder)
    assert alive == [1] * loads


def test_asking_without_the_adapter_is_asking_the_base(study, capsys):
    folder, p = study
    p.ask_max_new_tokens = 8
    bare, tokenizer = (
        loading.load(folder / "base/model", p),
        loading.load_tokenizer(folder / "base/model"),
    )
    prompts = cells("07_ask", p, folder)["prompts"]
    said = capsys.readouterr().out
    assert len(prompts) == 3
    for prompt in prompts:
        assert f"base: {writing.answer(bare, tokenizer, prompt.ids, 8)}\n" in said
    assert len(set(re.findall(r"(?:base|tuned): (.*)", said))) > 3, (
        "the adapter says something else"
    )


def needs(folder, p) -> dict[str, float]:
    """GB that the study's models need at least."""
    return {
        one.name: memory.rounded_up(
            budget_scoring.scoring(one.source, p, one.quantised, memory_check._adapter(one), 1)
        )
        for one in candidates.models(p, folder)
    }


def test_what_does_not_fit_is_left_out_and_added_where_it_fits(study, alive, monkeypatch, capsys):
    folder, p = study
    least = needs(folder, p)
    assert least["base-nf4"] < least["base"]
    monkeypatch.setenv(memory.LIMIT, str(least["base-nf4"]))
    kept = [name for name in least if least[name] <= least["base-nf4"]]
    gone = [name for name in least if name not in kept]
    assert "base" in gone
    scope = cells("04_eval", p, folder)
    assert {path.parent.name for path in folder.glob("predictions/*/*.jsonl")} == {
        *kept
    } and alive == [1] * len(kept)
    recorded = json.loads((folder / "predictions/left_out.json").read_text())
    assert {name: recorded[name]["needed_gb"] for name in recorded} == {
        name: least[name] for name in gone
    }
    assert scope["said"][0]["notes"]["left_out"] == recorded
    assert "base is not scored here: it needs 0.0" in capsys.readouterr().out
    asked = accuracies.left_out(folder.parent, ["small"])
    assert (
        asked.set_index("model").loc["base", "cell"]
        == f"not scored here: {memory.words(least['base'])}"
    )
    assert status._fit_now(folder) == []
    monkeypatch.delenv(memory.LIMIT)
    assert status._fit_now(folder) == gone
    cells("04_eval", p, folder)
    assert {path.parent.name for path in folder.glob("predictions/*/*.jsonl")} == {*least}
    assert not (folder / "predictions/left_out.json").exists() and len(alive) == len(least), (
        "nothing is scored twice"
    )


def test_what_was_scored_on_a_larger_machine_stays(study, alive, monkeypatch):
    folder, p = study
    cells("04_eval", p, folder)
    monkeypatch.setenv(memory.LIMIT, "0.001")
    cells("04_eval", p, folder)
    assert not (folder / "predictions/left_out.json").exists() and len(alive) == 3


def test_a_machine_that_holds_no_model_at_all_is_one_sentence(study, monkeypatch):
    folder, p = study
    monkeypatch.setenv(memory.LIMIT, "0.001")
    with pytest.raises(
        StudyError, match="not one model can be scored here: the smallest needs 0.0.. GB; run 04 on"
    ):
        scoring.score_all(p, runs.runs(p, folder / "data/benchmarks"), folder)


def test_batches_are_smaller_where_memory_is_short(study, monkeypatch, capsys):
    folder, p = study
    which = candidates.Model("base", str(folder / "base/model"))
    monkeypatch.setenv(
        memory.LIMIT,
        str(memory.rounded_up(budget_scoring.scoring(which.source, p, False, 0, 1024))),
    )
    given = []
    monkeypatch.setattr(
        one_model, "evaluate", lambda *_, batch_tokens, **__: given.append(batch_tokens)
    )
    monkeypatch.setattr(one_model, "rescore", lambda *_: {})
    scoring.score_model(which, p, runs.runs(p, folder / "data/benchmarks"), folder)
    assert (
        given == [1024] and "base is scored in batches of 1,024 tokens" in capsys.readouterr().out
    )


def test_replies_count_where_batches_are_made(study):
    """What a model writes is in memory beside what it reads."""
    folder, p = study
    tokenizer = loading.load_tokenizer(folder / "base/model")
    for protocol, samples in (("generate", 1), ("generate-vote", 5)):
        rendered = prompts.Prompts(run_of(12, protocol), tokenizer)
        made = list(batches.batched(rendered, tokenizer, 512, 2048, {"skipped": [], "cut": []}))
        tokens = [
            sum(samples * (len(requests[0].context) + 48) for _, requests in batch.asked)
            for batch in made
        ]
        assert (
            len(made) > 1 and max(tokens) <= 2048 and sum(len(batch.asked) for batch in made) == 12
        )


# ---- the steps around it ------------------------------------------------


def test_status_asks_no_deep_learning(toy):
    code = (
        "import sys; from sm70lib import runner; from sm70lib.study import memory, params\n"
        "from sm70lib.steps import steps\n"
        f"steps.status('04_eval', params.load({str(toy.file)!r})); memory.at_hand()\n"
        "assert not {'torch', 'transformers', 'peft'} & {*sys.modules}"
    )
    subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | toy.environment, check=True
    )


@pytest.mark.parametrize("gone", ["base", "base-nf4", "tuned"])
@pytest.mark.parametrize("world", [True, False])
def test_05_and_06_do_without_a_model(tmp_path, gone, world):
    skill = {name: chance for name, chance in synthetic.SKILL.items() if name != gone}
    folder = synthetic.study(
        tmp_path,
        world=world,
        skill=skill,
        sizes={"medqa_4": 40, "usmle_step1": 20, "usmle_step2": 20},
    )
    steps.write_json(
        folder / "predictions/left_out.json",
        {gone: {"needed_gb": 138.2, "there_gb": 80.0, "where": "x"}},
    )
    tiny = params.load(
        ROOT / "params/tiny.yml",
        overrides={
            "study": "made",
            "stats_resamples": 100,
            "figures_dpi": 50,
            "eval_primary_benchmarks": ["medqa_4"],
        },
    )
    for name in ("05_error_analysis", "06_figures"):
        cells(name, tiny, folder)
    row = pd.read_csv(folder / "tables/paper.csv", dtype=str).set_index("model").loc[gone]
    assert (row["protocol"], row["shots"]) == ("sm70-2023", "0") and len(row) == 6
    assert set(row[["medqa_4", "usmle", "usmle_macro"]]) == {"not scored here: 138 GB"}
    lines = (folder / "tables/paper.md").read_text().splitlines()
    (shown,) = [line for line in lines if line.startswith(f"| {names.model(gone)} |")]
    assert shown.count("not scored here: 138 GB") == 3
    assert "not scored here: 138 GB" in (folder / "tables/usmle.csv").read_text()
    card = (folder / "tables/scorecard.csv").read_text()
    assert ("tuned above" in card) == (gone != "tuned") and ("base in NF4" in card) == (
        gone == "tuned"
    )


def test_a_model_that_was_left_out_of_one_benchmark_keeps_its_others(tmp_path):
    synthetic.study(tmp_path, sizes={"medqa_4": 20, "pubmedqa": 20})
    found = accuracies.results(frames.load(tmp_path, ["made"]), stats.How(resamples=50))
    found = found[
        (found["protocol"] == "sm70-2023")
        & ~((found["model"] == "base") & (found["benchmark"] == "pubmedqa"))
    ]
    lacking = pd.DataFrame(
        [("made", "base", "not scored here: 138 GB")], columns=["study", "model", "cell"]
    )
    table = accuracies.wide(
        found, ["medqa_4", "pubmedqa"], quoted.read().head(0), lacking
    ).set_index("model")
    assert (
        table.loc["base", "pubmedqa"] == "not scored here: 138 GB"
        and "n=20" in table.loc["base", "medqa_4"]
    )
    assert "n=20" in table.loc["tuned", "pubmedqa"]
