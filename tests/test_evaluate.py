"""Scores equal the harness's, and a run killed anywhere ends with the lines of an undisturbed one."""

import json
from dataclasses import replace

import pytest

from sm70lib import evaluate, model, protocols
from sm70lib.benchmarks import Item
from sm70lib.evaluate import Run
from sm70lib.params import StudyError
from tests import small


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    small.base(folder)
    return model.load(folder / "base/model"), model.load_tokenizer(folder / "base/model")


def run_of(count: int, protocol: str = "sm70-2023", shots: int = 0) -> Run:
    items = [Item(f"m/{n}", f"m/{n}", "medqa_4", f"What is the river of town {n}? " * (1 + n % 4), "",
                  (f"river {n}", "the sea", f"{n} lakes and a pond", "none"), n % 4) for n in range(count)]
    return Run("medqa_4", protocols.named(protocol), shots, items, [])


def lines(path) -> dict[str, dict]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({line["item_id"] for line in found}) == len(found)
    return {line["item_id"]: {key: line[key] for key in line if key != "seconds"} for line in found}


@pytest.mark.parametrize(("protocol", "shots", "context"), [
    ("sm70-2023", 0, 4096), ("sm70-2023", 3, 4096), ("sm70-2023-letters", 0, 4096), ("harness", 0, 4096),
    ("sm70-2023", 3, 60)])
def test_loglikelihoods_equal_those_of_lm_evaluation_harness(loaded, tmp_path, protocol, shots, context):
    """Item by item, option by option: the same split of prompt and answer, no BOS, the same cut on the left."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    run = run_of(12, protocol, shots)
    run = replace(run, protocol=replace(run.protocol, max_context=context))
    if run.protocol.name == "harness":
        run = replace(run, pool=run.items)
    pairs = [(prompt.text, answer) for prompt in evaluate.Prompts(run) for answer in run.protocol.answers(prompt.item)]
    harness = HFLM(pretrained=loaded[0], tokenizer=loaded[1], batch_size=4, max_length=context)
    asked = [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)]
    theirs = [value for value, _ in harness.loglikelihood(asked, disable_tqdm=True)]
    evaluate.evaluate(*loaded, run, tmp_path / "p.jsonl", model_digest="m")
    found = lines(tmp_path / "p.jsonl")
    ours = [value for item in run.items for value in found[item.id]["loglikelihoods"]]
    assert len(ours) == 48 and ours == pytest.approx(theirs, abs=1e-3)


def test_killed_anywhere_ends_with_the_same_lines(loaded, tmp_path, monkeypatch):
    run = run_of(40)
    evaluate.evaluate(*loaded, run, tmp_path / "whole.jsonl", model_digest="m", batch_tokens=300)
    right, real, killed = lines(tmp_path / "whole.jsonl"), model.loglikelihoods, 0
    for survive in (1, 2, 3):
        calls = iter(range(survive))

        def dies(*arguments):
            if next(calls, None) is None:
                raise KeyboardInterrupt
            return real(*arguments)

        monkeypatch.setattr(model, "loglikelihoods", dies)
        with pytest.raises(KeyboardInterrupt):
            evaluate.evaluate(*loaded, run, tmp_path / "cut.jsonl", model_digest="m", batch_tokens=300)
        with open(tmp_path / "cut.jsonl", "r+") as file:  # and the last line half-written
            file.truncate(len(file.read()) - 20)
        killed += 1
    monkeypatch.setattr(model, "loglikelihoods", real)
    evaluate.evaluate(*loaded, run, tmp_path / "cut.jsonl", model_digest="m", batch_tokens=300)
    assert killed == 3 and len(right) == 40 and lines(tmp_path / "cut.jsonl") == right


@pytest.mark.parametrize("change", ["model", "version", "items", "words"])
def test_predictions_of_something_else_are_refused(loaded, tmp_path, change):
    run, digest = run_of(4), "m"
    evaluate.evaluate(*loaded, run, tmp_path / "p.jsonl", model_digest=digest)
    before = (tmp_path / "p.jsonl").read_text()
    if change == "model":
        digest = "another"
    if change == "version":
        run = replace(run, protocol=replace(run.protocol, version=2))
    if change == "items":
        run = replace(run, items=run.items[:3])
    if change == "words":
        run = replace(run, protocol=replace(run.protocol, layouts={"medqa_4": lambda item: item.question}))
    with pytest.raises(StudyError, match="was made with another .* --fresh 04"):
        evaluate.evaluate(*loaded, run, tmp_path / "p.jsonl", model_digest=digest)
    assert (tmp_path / "p.jsonl").read_text() == before


def test_choices_follow_from_the_loglikelihoods():
    run = run_of(3)
    prompt = evaluate.Prompt(run.items[2], 42, "", "text")
    found = evaluate.record(prompt, run, [-8.0, -7.0, -9.0, -6.0], 0.1)
    assert (found["choice"], found["choice_norm"], found["gold"]) == (3, 2, 2)  # 9 nats over 18 characters
    assert (found["correct"], found["correct_norm"]) == (False, True)


def test_shots_without_a_source_are_one_sentence(loaded, tmp_path):
    with pytest.raises(StudyError, match="harness has no items to draw 2 shots from"):
        evaluate.evaluate(*loaded, run_of(3, "harness", 2), tmp_path / "p.jsonl", model_digest="m")
