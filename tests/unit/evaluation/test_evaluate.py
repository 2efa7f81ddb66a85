"""Scoring: what is asked, scored, counted, listed and kept, item by item."""

import json
import shutil
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from sm70lib import benchmarks, protocols
from sm70lib.asking import fitting, prompts, runs
from sm70lib.asking.runs import Run
from sm70lib.benchmarks import Item
from sm70lib.benchmarks.details import Details
from sm70lib.corpus import templates, tokens
from sm70lib.evaluation import (
    batches,
    candidates,
    first_look,
    lines,
    one_model,
    one_run,
    scoring,
)
from sm70lib.models import loading, local, writing
from sm70lib.models.backend import Local
from sm70lib.protocols.protocol import Protocol
from sm70lib.steps.steps import write_json
from sm70lib.study.params import StudyError
from tests import small, synthetic
from tests.asked import adding_bos, answered, kept, run_of, study_with_items
from tests.small import with_adapter


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    small.base(folder)
    return loading.load(folder / "base/model"), loading.load_tokenizer(folder / "base/model")


def test_a_bos_changes_what_is_scored_only_where_a_protocol_begins_as_the_tokenizer_does(
    loaded, tmp_path
):
    """With a tokenizer that adds one and one that does not.

    What is cut on the left loses its BOS.
    """
    with_bos, differ = (loaded[0], adding_bos(loaded[1])), {}
    for name in ("sm70-2023", "harness", "meditron"):
        plain, begun = (
            answered(each, run_of(6, name), tmp_path / f"{name}-{n}.jsonl")
            for n, each in enumerate((loaded, with_bos))
        )
        differ[name] = max(abs(a - b) for a, b in zip(plain, begun, strict=True)) > 1e-3
    assert differ == {"sm70-2023": False, "harness": True, "meditron": True}
    for context in (4096, 40):
        run = run_of(6, "harness")
        firsts = [
            fitting.usable(prompt, run.protocol, with_bos[1], context, None)[0].context[0]
            for prompt in prompts.Prompts(run, with_bos[1])
        ]
        begun = [first == with_bos[1].bos_token_id for first in firsts]
        assert begun == [context == 4096] * 6


def test_what_prompts_share_is_remembered_with_its_bos_and_changes_nothing(
    loaded, tmp_path, monkeypatch
):
    """A fixed shot in front of every item, once in common and once with nothing kept."""
    loaded = loaded[0], adding_bos(loaded[1])
    run, kept = replace(run_of(12, "meditron", 1), pool=run_of(9).items), []
    run = replace(
        run, protocol=replace(run.protocol, seeds=(1234,), intro=lambda item: "Select one.\n")
    )
    real = local.remember
    monkeypatch.setattr(
        local,
        "remember",
        lambda model_, common: kept.append(list(common)) or real(model_, common),
    )
    together = answered(loaded, run, tmp_path / "together.jsonl")
    kept = [common for common in kept if len(common) > 1][1:]  # the first is that of the proof
    assert kept and all(
        common[0] == loaded[1].bos_token_id and len(common) > batches.SHARED for common in kept
    )
    monkeypatch.setattr(batches, "SHARED", 10**9)
    apart = answered(loaded, run, tmp_path / "apart.jsonl")
    assert len(together) == 12 * 4 and together == pytest.approx(apart, abs=1e-4)


def test_memory_does_not_grow_with_the_number_of_items(loaded, tmp_path, monkeypatch):
    """Peak of Python's memory over 130 and over 325 items, where 64 are held as tokens at a time:
    what is kept per item is less than its tokens.
    """
    monkeypatch.setattr(prompts, "CHUNK", 64)
    monkeypatch.setattr(Local, "way", "packed")
    monkeypatch.setattr(
        Local,
        "loglikelihoods",
        lambda _, asked, *__: [[0.0] * len(request.options) for request in asked],
    )
    peaks = []
    for count in (130, 325):
        run = run_of(count)
        run = replace(
            run,
            items=[
                replace(item, question="Where does that river end? " * 25) for item in run.items
            ],
        )
        tracemalloc.start()
        one_run.evaluate(Local(*loaded), run, tmp_path / f"{count}.jsonl", model_digest="m")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    tokens = (
        sum(len(loaded[1](prompt.text)["input_ids"]) for prompt in prompts.Prompts(run, loaded[1]))
        / 325
    )
    per_item = (peaks[1] - peaks[0]) / 195
    assert per_item < 8 * tokens, f"{peaks} bytes, {tokens:.0f} tokens an item"


def test_unusable_items_are_listed_and_the_rest_is_scored(loaded, tmp_path):
    run = run_of(8)
    bad = {
        2: replace(run.items[2], options=("a", " ", "c", "d")),
        5: replace(run.items[5], answer=7),
        6: replace(run.items[6], options=("long " * 600, "b", "c", "d")),
        7: replace(run.items[7], question="long " * 800),
    }
    run = replace(run, items=[bad.get(number, item) for number, item in enumerate(run.items)])
    one_run.evaluate(Local(*loaded), run, tmp_path / "p.jsonl", model_digest="m")
    about = json.loads((tmp_path / "p.meta.json").read_text())
    reasons = {row["item_id"]: row["reason"] for row in about["skipped"]}
    assert reasons == {
        "m/2": "an option is empty",
        "m/5": "no right option",
        "m/6": "an option fills the context of 512 tokens",
    }
    assert (about["n_items"], about["n_scored"], about["cut"]) == (8, 5, ["m/7"]) and len(
        kept(tmp_path / "p.jsonl")
    ) == 5
    assert lines.finished(tmp_path / "p.jsonl", prompts.Prompts(run, loaded[1]), "m")


@pytest.mark.parametrize("change", ["model", "version", "items", "words"])
def test_predictions_of_something_else_are_refused(loaded, tmp_path, change):
    run, digest = run_of(4), "m"
    one_run.evaluate(Local(*loaded), run, tmp_path / "p.jsonl", model_digest=digest)
    before = (tmp_path / "p.jsonl").read_text()
    if change == "model":
        digest = "another"
    if change == "version":
        run = replace(run, protocol=replace(run.protocol, version=run.protocol.version + 1))
    if change == "items":
        run = replace(run, items=run.items[:3])
    if change == "words":
        run = replace(
            run, protocol=replace(run.protocol, layouts={"medqa_4": lambda item: item.question})
        )
    with pytest.raises(StudyError, match="was made with another .* --fresh 04"):
        one_run.evaluate(Local(*loaded), run, tmp_path / "p.jsonl", model_digest=digest)
    assert (tmp_path / "p.jsonl").read_text() == before


def test_choices_follow_from_the_loglikelihoods():
    run = run_of(3)
    prompt = prompts.Prompt(run.items[2], 42, "text", run.protocol.answers(run.items[2]))
    found = lines.record(prompt, run, [-8.0, -7.0, -9.0, -6.0])
    assert (found["choice"], found["choice_norm"], found["gold"]) == (
        3,
        2,
        2,
    )  # 9 nats over 18 characters
    assert (found["correct"], found["correct_norm"]) == (False, True)


@pytest.mark.parametrize(
    "wrong", [[float("nan"), -7.0, -9.0, -6.0], [-8.0, -7.0, float("inf"), -6.0], [-np.inf] * 4]
)
def test_scores_that_are_no_numbers_give_no_choice_but_a_sentence(wrong):
    """The first NaN would be the choice: a model that overflows would get an accuracy."""
    run = run_of(3)
    prompt = prompts.Prompt(run.items[2], 42, "text", run.protocol.answers(run.items[2]))
    with pytest.raises(StudyError, match=r"item 'm/2' of medqa_4\S*: .*(nan|inf).* nats, .*dtype"):
        lines.record(prompt, run, wrong)
    ruled_out = lines.record(prompt, run, [-np.inf, -7.0, -9.0, -np.inf])
    assert (ruled_out["choice"], ruled_out["correct"]) == (1, False)


def test_shots_without_a_source_are_one_sentence(loaded, tmp_path):
    with pytest.raises(StudyError, match="harness has no items to draw 2 shots from"):
        one_run.evaluate(
            Local(*loaded), run_of(3, "harness", 2), tmp_path / "p.jsonl", model_digest="m"
        )


def test_replies_are_read_voted_on_and_counted_where_they_say_nothing(
    loaded, tmp_path, monkeypatch
):
    said = {0: ["A"], 1: ["the sea"], 2: ["I do not know"], 3: ["(D)"]}
    monkeypatch.setattr(
        writing,
        "written",
        lambda _, __, contexts, new, samples, seed: [said[next(texts)] * samples for _ in contexts],
    )
    for protocol in ("generate", "generate-vote"):
        run, path, texts = (
            run_of(4, protocol),
            tmp_path / "m" / f"{protocol}.jsonl",
            iter((3, 2, 1, 0)),
        )
        path.parent.mkdir(exist_ok=True)
        monkeypatch.setattr(
            prompts.Prompts, "chunks", lambda self: iter([(False, [self[n] for n in (3, 2, 1, 0)])])
        )
        run = replace(
            run,
            items=[
                replace(item, question="Same?", options=("river", "the sea", "a pond", "none"))
                for item in run.items
            ],
        )
        one_run.evaluate(Local(*loaded), run, path, model_digest="m")
        found = kept(path)
        assert {key: line["choice"] for key, line in found.items()} == {
            "m/0": 0,
            "m/1": 1,
            "m/2": None,
            "m/3": 3,
        }
        assert (
            sum(line["correct"] for line in found.values()) == 3
            and found["m/0"]["loglikelihoods"] is None
        )
        assert len(found["m/0"]["parsed"]) == run.protocol.samples
    shown = first_look.accuracies(tmp_path).reset_index()
    assert shown["m"].tolist() == [75.0, 75.0] and shown["unread"].tolist() == [1, 1]


def test_a_model_really_writes_and_what_it_writes_can_be_repeated(loaded, tmp_path):
    texts = []
    for name in ("one", "two"):
        one_run.evaluate(
            Local(*loaded), run_of(3, "generate-vote"), tmp_path / f"{name}.jsonl", model_digest="m"
        )
        texts.append([line["parsed"] for line in kept(tmp_path / f"{name}.jsonl").values()])
    assert texts[0] == texts[1] and all(len(some) == 5 and len(set(some)) > 1 for some in texts[0])


def test_three_seeds_are_three_lines_an_item_and_mc2_has_its_mass(loaded, tmp_path):
    item = Item(
        "t/1",
        "t/1",
        "truthfulqa",
        "Is it?",
        "",
        ("It is", "It is not", "Never", "No one knows", "Perhaps"),
        0,
        Details(category="Health", mc2={"It is": 1, "It is so": 1, "It is not": 0}),
    )
    for protocol, count in (("meditron", 3), ("harness-mc2", 1)):
        run = Run("truthfulqa", protocols.named(protocol), 0, [item], [])
        one_run.evaluate(Local(*loaded), run, tmp_path / f"{protocol}.jsonl", model_digest="m")
        found = [json.loads(line) for line in (tmp_path / f"{protocol}.jsonl").open()]
        assert len({line["seed"] for line in found}) == len(found) == count
    share = np.exp(found[0]["loglikelihoods"])
    assert found[0]["mass"] == pytest.approx(share[:2].sum() / share.sum(), abs=1e-5)


CHAT = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}{{ '\\n\\n' }}"


def test_a_chat_template_stands_around_the_prompt(loaded, monkeypatch):
    run = run_of(1, "med42")
    assert prompts.Prompts(run, loaded[1])[0].text.startswith(
        "<|system|>: You are a helpful medical assistant"
    )
    monkeypatch.setattr(loaded[1], "chat_template", CHAT)
    text = prompts.Prompts(run, loaded[1])[0].text
    assert text.startswith("[user] Question: What is the river") and text.endswith("Answer:\n\n")
    context, answer = fitting._tokenised(text, ["A. x"], loaded[1], "never")[0]
    assert loaded[1].decode(answer) == "\n\nA. x" and loaded[1].decode(context) == text.rstrip()


def test_a_bos_that_the_chat_template_wrote_is_not_doubled(loaded, monkeypatch):
    tokenizer, counts = adding_bos(loaded[1]), {}
    for template in (CHAT, "{{ bos_token }}" + CHAT):
        monkeypatch.setattr(tokenizer, "chat_template", template)
        prompt = prompts.Prompts(run_of(1, "med42"), tokenizer)[0]
        for bos in ("never", "tokenizer", "always"):
            context, _ = fitting._tokenised(prompt.text, prompt.answers, tokenizer, bos)[0]
            counts[template == CHAT, bos] = (
                context.count(tokenizer.bos_token_id),
                context[0] == tokenizer.bos_token_id,
            )
    assert counts == {
        (True, "never"): (0, False),
        (True, "tokenizer"): (1, True),
        (True, "always"): (1, True),
        (False, "never"): (1, True),
        (False, "tokenizer"): (1, True),
        (False, "always"): (1, True),
    }


def test_a_template_that_refuses_a_system_message_goes_without_it_as_in_the_harness(
    loaded, monkeypatch
):
    strict = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no') }}"
        "{% endif %}{% endfor %}"
    )
    item = replace(run_of(1).items[0], benchmark="mmlu_medical", details=Details(subject="anatomy"))
    run, texts = Run("mmlu_medical", protocols.named("med42"), 0, [item], []), []
    for template in (CHAT, strict + CHAT):
        monkeypatch.setattr(loaded[1], "chat_template", template)
        texts.append(prompts.Prompts(run, loaded[1])[0].text)
    described, bare = texts
    assert described.startswith(
        "[system] The following are multiple choice questions (with answers) about anatomy."
    )
    assert bare.startswith("[user] What is the river") and described.endswith(bare)


def test_a_limit_counts_the_items_that_a_protocol_keeps_and_not_those_it_takes_as_shots(tmp_path):
    words = ("yes", "no", "maybe")
    abstracts = [
        Item(f"{n}", f"{n}", "pubmedqa", "Does it?", "", words, 0, Details(test=n % 2 == 1))
        for n in range(60)
    ]
    benchmarks.save(tmp_path, "pubmedqa", abstracts)
    benchmarks.save(tmp_path, "pubmedqa.pool", [])
    benchmarks.save(tmp_path, "medqa_4", run_of(30).items)
    benchmarks.save(tmp_path, "medqa_4.pool", [])
    p = small.parameters(
        eval_benchmarks=["pubmedqa", "medqa_4"],
        eval_shots=[0, 3],
        eval_protocols=["sm70-2023", "sm70-2023-clean", "harness"],
        eval_caps={},
    )
    counted = {}
    for p.eval_limit in (10, 29, None):
        for run in runs.runs(p, tmp_path):
            key, taken = (run.benchmark, run.protocol.name, run.shots), 0
            counted.setdefault(key, []).append(len(run.items))
            assert all(run.protocol.keep(item) for item in run.items)
            assert not [item for item in run.pool if item in run.items]
            if not run.protocol.shots_from_test:
                taken = run.shots
            assert len(run.pool) == taken
    assert counted == {
        ("pubmedqa", "sm70-2023", 0): [10, 29, 60],
        ("pubmedqa", "sm70-2023", 3): [10, 29, 60],
        ("pubmedqa", "sm70-2023-clean", 0): [10, 29, 30],
        ("pubmedqa", "sm70-2023-clean", 3): [10, 27, 27],
        ("pubmedqa", "harness", 0): [10, 29, 30],
        ("pubmedqa", "harness", 3): [10, 27, 27],
        ("medqa_4", "sm70-2023", 0): [10, 29, 30],
        ("medqa_4", "sm70-2023", 3): [10, 29, 30],
        ("medqa_4", "sm70-2023-clean", 0): [10, 29, 30],
        ("medqa_4", "sm70-2023-clean", 3): [10, 27, 27],
        ("medqa_4", "harness", 0): [10, 29, 30],
        ("medqa_4", "harness", 3): [10, 27, 27],
    }


@pytest.mark.parametrize("train", [0, 30])
def test_dev_items_are_asked_as_their_test_and_never_stand_in_their_own_shots(tmp_path, train):
    """Under every protocol, with MedQA's train file and without one.

    PubMedQA's dev has no pool in any case.
    """
    words = ("yes", "no", "maybe")
    exam = [replace(item, id=f"d/{item.id}", benchmark="medqa_4_dev") for item in run_of(12).items]
    abstracts = [
        Item(f"{n}", f"{n}", "pubmedqa_dev", f"Does {n}?", "So.", words, n % 3) for n in range(12)
    ]
    pool = [replace(item, id=f"t/{item.id}") for item in run_of(30).items][:train]
    for name, some in {
        "medqa_4_dev": exam,
        "medqa_4_dev.pool": pool,
        "pubmedqa_dev": abstracts,
        "pubmedqa_dev.pool": [],
        "medqa_4": exam,
        "medqa_4.pool": exam,
        "pubmedqa": abstracts,
        "pubmedqa.pool": abstracts,
    }.items():
        benchmarks.save(tmp_path, name, some)  # the pools of the tests hold dev itself
    checked = 0
    for protocol in protocols.PROTOCOLS:
        for name in ("medqa_4", "pubmedqa"):
            p = small.parameters(
                eval_benchmarks=[f"{name}_dev"],
                eval_shots=[0, 3],
                eval_protocols=[protocol.name],
                eval_limit=None,
                eval_caps={},
            )
            if not protocol.covers(name, 0):
                with pytest.raises(StudyError, match=f"none of {protocol.name} covers {name}_dev"):
                    runs.runs(p, tmp_path)
                continue
            asked = runs.runs(p, tmp_path)
            assert [run.shots for run in asked] == [
                shots for shots in (0, 3) if protocol.covers(name, shots)
            ]
            for run in asked:
                assert run.name.startswith(f"{name}_dev-") and {
                    item.benchmark for item in run.items
                } == {name}
                assert not {item.id for item in run.items} & {item.id for item in run.pool}
                for seed in protocol.seeds if run.shots else ():
                    shots = protocol.draw(run.items, run.shots, run.pool, seed)
                    assert all(
                        len(some) == 3 and item not in some
                        for item in run.items
                        for some in [shots[item.id]]
                    )
                    if train and name == "medqa_4":
                        assert all(
                            shot.id.startswith("t/") for some in shots.values() for shot in some
                        )
                taken = (
                    run.shots
                    if not run.protocol.shots_from_test and not (train and name == "medqa_4")
                    else 0
                )
                assert len(run.items) == 12 - taken
                checked += 1
    assert checked >= 16
    print(f"{checked} runs of dev items")


def test_a_first_look_shows_no_accuracy_where_most_replies_are_unread(tmp_path):
    for model_, unread in (("half", 2), ("most", 3)):
        (tmp_path / model_).mkdir()
        rows = [
            {
                "item_id": str(n),
                "benchmark": "xstest_safe",
                "protocol": "safety",
                "shots": 0,
                "correct": n >= unread,
                "choice": None if n < unread else 0,
            }
            for n in range(4)
        ]
        (tmp_path / model_ / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / model_ / "p.meta.json").write_text("{}")
    shown = first_look.accuracies(tmp_path).iloc[0]
    assert shown["half"] == 50 and np.isnan(shown["most"]) and shown["unread"] == 3
    assert np.isnan(first_look.by_protocol(tmp_path, "most").loc["xstest_safe", "range_pts"])


# ---- models --------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path):
    return study_with_items(tmp_path)


def test_other_models_are_looked_for_before_any_is_scored(study):
    folder, p = study
    p.eval_models = {"other": f"{folder / 'base/model'} quant=nf4 chat=yes"}
    found = {one.name: one for one in candidates.models(p, folder)}
    assert (
        list(found) == ["base", "tuned", "other"]
        and found["other"].quantised
        and found["other"].chat
    )
    assert len({found["base"].identity(), found["other"].identity()}) == 2
    for line, sentence in (
        ("outputs/nowhere", "there is no folder outputs/nowhere"),
        (str(folder), "cannot be read"),
        (
            f"{folder / 'base/model'} quant=int3",
            "quant=int3 is not understood; allowed are .*quant=nf4",
        ),
        (" ", "^eval_models: other: '' is not understood; allowed are FOLDER_OR_HUB_NAME"),
    ):
        p.eval_models = {"other": line}
        with pytest.raises(StudyError, match=sentence):
            scoring.score_all(p, [], folder)


# ---- what is kept --------------------------------------------------------------------------------


@pytest.fixture
def scored(study, monkeypatch):
    """A finished evaluation of two models, and a function that scores and tells which files that
    wrote to.
    """
    folder, p = study
    (folder / "adapter").mkdir()
    with_adapter(loading.load(folder / "base/model")).save_pretrained(folder / "adapter")
    p.eval_protocols = ["sm70-2023"]
    written, evaluate_, load = [], one_run.evaluate, loading.load
    monkeypatch.setattr(
        one_model,
        "evaluate",
        lambda *given, **named: (
            written.append(f"{given[2].parent.name} {given[2].stem}"),
            evaluate_(*given, **named),
        ),
    )
    loads = []
    monkeypatch.setattr(loading, "load", lambda *given: (loads.append(given), load(*given))[1])

    def score() -> list[str]:
        written.clear(), loads.clear()
        scoring.score_all(p, runs.runs(p, folder / "data/benchmarks"), folder)
        assert len(loads) == len({line.split()[0] for line in written}), (
            "only what is asked is loaded"
        )
        return list(written)

    assert score() == ["base medqa_4-sm70-2023-0", "tuned medqa_4-sm70-2023-0"] and score() == []
    return folder, p, score


def content(folder) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*.json*"))
    }


def test_every_prompt_is_rendered_once_for_all_models(study, monkeypatch):
    """Invented benchmarks, with a shot and without, under one seed and under three."""
    folder, p = study
    p.eval_protocols, p.eval_shots = ["sm70-2023", "harness", "meditron"], [0, 1]
    p.eval_benchmarks = ["medqa_4", "pubmedqa", "usmle_step1"]
    for name in p.eval_benchmarks:
        made = synthetic.items(name, 12, world=False)
        benchmarks.save(folder / "data/benchmarks", name, made[:8])
        benchmarks.save(folder / "data/benchmarks", f"{name}.pool", made[8:])
    found = [candidates.Model(name, str(folder / "base/model")) for name in ("base", "twin")]
    monkeypatch.setattr(scoring, "models", lambda *_: found)
    rendered, prompt = [], Protocol.prompt
    monkeypatch.setattr(
        Protocol, "prompt", lambda self, *given: rendered.append(self) or prompt(self, *given)
    )
    asked = runs.runs(p, folder / "data/benchmarks")
    assert {len(run.seeds) for run in asked} == {1, 3} and {run.shots for run in asked} == {0, 1}
    wanted = sum(len(run.items) * len(run.seeds) for run in asked)
    scoring.score_all(p, asked, folder)
    assert len(asked) >= 8 and len(rendered) == wanted
    written = content(folder / "predictions")
    rendered.clear()
    scoring.score_all(p, runs.runs(p, folder / "data/benchmarks"), folder)
    assert len(rendered) == wanted, "to see what matches, and that nothing is left"
    assert content(folder / "predictions") == written
    spoken = prompts.Prompts(asked[0], loading.load_tokenizer(folder / "base/model"), chat=True)
    assert spoken.digest != prompts.Prompts(asked[0], None).digest, "in other words"
    for run in asked:  # what waited in a file is what would be rendered now
        digests = {each.key: each.digest for each in prompts.Prompts(run, None)}
        scored_lines = lines.lines(folder / f"predictions/base/{run.name}.jsonl")
        found = {(line["item_id"], line["seed"]): line["prompt_digest"] for line in scored_lines}
        assert found == digests


def test_a_benchmark_added_is_scored_and_nothing_else_is(scored):
    folder, p, score = scored
    before = content(folder / "predictions")
    items = [replace(item, benchmark="usmle_step1") for item in run_of(6).items]
    benchmarks.save(folder / "data/benchmarks", "usmle_step1", items)
    benchmarks.save(folder / "data/benchmarks", "usmle_step1.pool", [])
    p.eval_benchmarks = ["medqa_4", "usmle_step1"]
    assert score() == ["base usmle_step1-sm70-2023-0", "tuned usmle_step1-sm70-2023-0"]
    after = content(folder / "predictions")
    assert {name: after[name] for name in before if "batch_1" not in name} == {
        name: text for name, text in before.items() if "batch_1" not in name
    }
    p.eval_benchmarks = ["medqa_4"]  # and taken out again
    assert score() == [] and not list(folder.glob("predictions/*/usmle*"))
    assert (
        len(list(folder.glob("replaced/04_eval/*/predictions/*/usmle_step1-sm70-2023-0.jsonl")))
        == 2
    )
    p.eval_benchmarks = ["medqa_4", "usmle_step1"]
    assert score() == [] and content(folder / "predictions") == after, "it comes back"


def test_what_another_adapter_said_moves_aside_and_comes_back_with_it(scored):
    folder, p, score = scored
    before = content(folder / "predictions")
    shutil.move(folder / "adapter", folder / "kept")
    with_adapter(loading.load(folder / "base/model"), seed=5).save_pretrained(folder / "adapter")
    assert score() == ["tuned medqa_4-sm70-2023-0"]
    moved = {
        path.relative_to(folder).parts[-1]
        for path in folder.glob("replaced/04_eval/*/predictions/tuned/*")
    }
    assert moved == {"medqa_4-sm70-2023-0.jsonl", "medqa_4-sm70-2023-0.meta.json", "batch_1.json"}
    shutil.rmtree(folder / "adapter")
    shutil.move(folder / "kept", folder / "adapter")
    assert score() == [] and content(folder / "predictions") == before


def test_fewer_items_and_models_move_aside_and_come_back(scored):
    folder, p, score = scored
    before = content(folder / "predictions")
    p.eval_limit = 5
    assert len(score()) == 2
    p.eval_limit, p.eval_models = None, {"other": str(folder / "base/model")}
    assert score() == ["other medqa_4-sm70-2023-0"]
    p.eval_models = {}
    assert score() == [] and content(folder / "predictions") == before
    assert len(list(folder.glob("replaced/04_eval/*/predictions/other/*"))) == 3


def test_what_was_to_be_scored_afresh_does_not_come_back(scored):
    folder, p, score = scored
    key = {"parameters": {}, "inputs": {}, "code": {}}
    write_json(folder / "steps/04_eval/begun.json", {"fresh": True, "key": key})
    shutil.move(folder / "predictions", folder / "replaced/04_eval/0123/predictions")
    assert len(score()) == 2
    (folder / "steps/04_eval/begun.json").unlink()
    shutil.rmtree(folder / "predictions")
    assert score() == []


def test_lines_without_what_stands_beside_them_are_moved_and_not_deleted(scored):
    folder, p, score = scored
    (folder / "predictions/base/medqa_4-sm70-2023-0.meta.json").unlink()
    assert score() == ["base medqa_4-sm70-2023-0"]
    assert (
        folder / "replaced/04_eval/unmarked/predictions/base/medqa_4-sm70-2023-0.jsonl"
    ).exists()


def test_a_preference_is_scored_by_the_loss_per_token_of_transformers(loaded, tmp_path):
    model, tokenizer = loaded
    options = ("Because it rains in the town by the river.", "No.")
    item = Item("x", "x", "public_pairs", "Why?", "", options, 0)
    run = Run("public_pairs", protocols.named("preference"), 0, [item], [], "medalpaca")
    one_run.evaluate(Local(*loaded), run, tmp_path / "p.jsonl", model_digest="m")
    (line,) = map(json.loads, (tmp_path / "p.jsonl").read_text().splitlines())
    [prompt] = tokens.prompt_ids([templates.render("medalpaca", "", "Why?")], tokenizer)
    losses = []
    for option in options:
        ids = tokenizer(option, add_special_tokens=False)["input_ids"]
        whole = torch.tensor([prompt + ids])
        labels = torch.tensor([[-100] * len(prompt) + ids])
        losses.append(model(input_ids=whole, labels=labels).loss.item())
    assert line["loglikelihoods"] == pytest.approx([-loss for loss in losses], abs=1e-4)
    assert line["choice"] == line["choice_norm"] == int(losses[1] < losses[0])


def test_a_first_look_passes_over_a_file_without_lines(tmp_path):
    """Every prompt of a run may have been skipped, for example as too long."""
    for path in (tmp_path / "base/a.jsonl", tmp_path / "tuned/a.jsonl"):
        path.parent.mkdir()
        path.write_text("")
        path.with_suffix(".meta.json").write_text("{}")
    assert first_look.example(tmp_path) == {} and first_look.by_protocol(tmp_path).empty
    line = {"item_id": "1", "benchmark": "medqa_4", "protocol": "harness", "shots": 0}
    line |= {"correct": True, "choice": 0}
    (tmp_path / "tuned/b.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "tuned/b.meta.json").write_text("{}")
    assert first_look.example(tmp_path) == line
    assert first_look.by_protocol(tmp_path, "base").loc["medqa_4", "harness, 0-shot"] == 100


IMAGE = "<image_soft_token>"


@pytest.fixture(scope="module")
def with_image(tmp_path_factory):
    """A model whose tokenizer has one special token more than it has embeddings, as Gemma-3 1B."""
    folder = tmp_path_factory.mktemp("image")
    small.base(folder)
    tokenizer = loading.load_tokenizer(folder / "base/model")
    tokenizer.add_special_tokens({"extra_special_tokens": [IMAGE]})
    loaded = loading.load(folder / "base/model")
    assert len(tokenizer) == loaded.config.vocab_size + 1
    return loaded, tokenizer


@pytest.mark.parametrize("where", ["question", "options"])
@pytest.mark.parametrize("name", ["harness", "sm70-2023", "generate", "as-trained"])
def test_an_item_that_spells_out_a_token_without_embedding_is_left_out(
    with_image, tmp_path, name, where
):
    """Where a protocol puts special tokens of an item as text, nothing is left out."""
    run = run_of(3, name)
    spelt = {"question": f"What is {IMAGE}?", "options": (f"a {IMAGE}", "b", "c", "d")}
    run.items[1] = replace(run.items[1], **{where: spelt[where]})
    one_run.evaluate(Local(*with_image), run, tmp_path / "p.jsonl", model_digest="m")
    about = json.loads((tmp_path / "p.meta.json").read_text())
    if run.protocol.in_template:
        assert about["skipped"] == [] and len(kept(tmp_path / "p.jsonl")) == 3
        return
    reason = f"it spells out {IMAGE}, for which the model has no embedding"
    assert about["skipped"] == [{"item_id": "m/1", "seed": run.seeds[0], "reason": reason}]
    assert kept(tmp_path / "p.jsonl").keys() == {"m/0", "m/2"} and about["n_scored"] == 2
