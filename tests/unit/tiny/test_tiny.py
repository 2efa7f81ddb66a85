"""The fictional medicine is balanced, its held-out kinds are held out, and its files read like the
real ones.
"""

import json
import re
from collections import Counter

import pytest

from sm70lib import benchmarks, sources
from sm70lib.tiny import pretrain, twins, world
from tests import small

SIZES = {
    "medqa_4": 300,
    "pubmedqa": 300,
    "usmle_step1": 100,
    "usmle_step2": 100,
    "usmle_step3": 100,
    "truthfulqa": 300,
}
SOURCES = [
    "medical_flashcards",
    "wikidoc",
    "wikidoc_patient_information",
    "medqa",
    "mmmlu",
    "pubmed_causal",
    "health_advice",
    "cord19",
]
PRACTICE = ["practice_questions", "practice_reports"]  # in layouts of our own


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    found = world.make(seed=5, conditions=60)
    twins.write(found, folder)
    return found, folder


def test_every_value_belongs_to_equally_many_conditions(made):
    found, _ = made
    counts = Counter((fact.relation, fact.value) for fact in found.facts)
    assert len(found.facts) == 300 and set(counts.values()) == {world.SHARED_BY}
    assert Counter(fact.kind for fact in found.facts) == {
        "known": 120,
        "fact": 80,
        "condition": 100,
    }


def test_the_same_seed_gives_the_same_files_and_another_seed_another_world(made, tmp_path):
    found, folder = made
    twins.write(world.make(seed=5, conditions=60), tmp_path)
    files = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    assert len(files) > 15 and all(
        (folder / name).read_bytes() == (tmp_path / name).read_bytes() for name in files
    )
    other = world.make(seed=6, conditions=60)
    assert not {fact.subject for fact in found.facts} & {fact.subject for fact in other.facts}


def test_benchmarks_are_large_enough_and_no_guesser_gains(made):
    _, folder = made
    for name, least in SIZES.items():
        items = benchmarks.read(name, folder)
        assert len(items) >= least, name
        if name != "truthfulqa":
            assert benchmarks.best_constant_accuracy(items) < 0.37, name
        assert {item.details.kind for item in items} == set(world.KINDS), name


def test_tuning_never_mentions_what_is_held_out(made):
    """Apart from the planted leaks, which the audit drops."""
    found, folder = made
    names = [*(f"medical_meadow_{name}" for name in SOURCES if name != "mmmlu"), *PRACTICE]
    text = "".join((folder / f"{name}/{name}.json").read_text() for name in names)
    silent = [fact.subject for fact in found.of("condition")]
    assert len(set(silent)) == 20 and not [subject for subject in silent if subject in text]
    rows = [
        row
        for name in names
        if "cord19" not in name
        for row in sources.read(name, folder, defects=[])
    ]
    for fact in found.of("fact"):
        told = [
            row
            for row in rows
            if fact.subject in row.input + row.output and fact.value in row.output
        ]
        others = [
            other.value
            for other in found.facts
            if other.subject == fact.subject and other.kind == "known"
        ]
        assert all(any(value in row.output for value in others) for row in told)
    assert len(rows) > 5000


def test_a_test_stem_never_stands_in_tuning(made):
    _, folder = made
    asked = {
        row.input
        for name in ("medical_meadow_medqa", "medical_meadow_medical_flashcards", *PRACTICE)
        for row in sources.read(name, folder, defects=[])
    }
    stems = [
        item.question
        for name in ("medqa_4", "usmle_step1", "usmle_step2", "usmle_step3")
        for item in benchmarks.read(name, folder)
    ]
    assert len(stems) >= 660 and not [stem for stem in stems if any(stem in row for row in asked)]


def reports(folder) -> list[dict]:
    return list(json.loads((folder / "pubmedqa/data/ori_pqal.json").read_text()).values())


def test_who_exchanges_the_agents_of_a_report_turns_its_verdict(made):
    _, folder = made
    pairs = {}
    for row in reports(folder):
        pairs.setdefault(row["pair"], []).append(row)
    assert len(pairs) == 200
    for first, second in pairs.values():
        agent = re.search(r"vitamin [QXYZ]\d+", first["QUESTION"])[0]
        other = next(name for name in ("placebo", "usual care") if name in first["CONTEXTS"][0])
        said, agent = first["CONTEXTS"][1].lower(), agent.lower()
        turned = said.replace(agent, "\0").replace(other, agent).replace("\0", other)
        assert (first["QUESTION"], turned) == (second["QUESTION"], second["CONTEXTS"][1].lower())
        assert said.count(agent) == said.count(other) == 1, "two agents have one result each"
        assert first["final_decision"] != second["final_decision"]
    test = json.loads((folder / "pubmedqa/data/test_ground_truth.json").read_text())
    official = Counter(
        row["pair"]
        for key, row in zip(
            json.loads((folder / "pubmedqa/data/ori_pqal.json").read_text()), reports(folder)
        )
        if key in test
    )
    assert len(official) == 150 and set(official.values()) == {2}, "a pair is never torn apart"


def test_half_of_the_reports_are_worded_as_no_tuning_row_is(made):
    _, folder = made
    told = (folder / "practice_reports/practice_reports.json").read_text()
    told += (folder / "medical_meadow_cord19/medical_meadow_cord19.json").read_text()
    agents = re.compile(r"vitamin [QXYZ]\d+|placebo|usual care", re.I)
    shown = {agents.sub("*", sentence) for sentence in re.findall(r"[A-Z][^.]*\.", told)}
    counts = Counter()
    for row in reports(folder):
        sentences = re.findall(r"[A-Z][^.]*\.", row["CONTEXTS"][1])
        known = {agents.sub("*", sentence) in shown for sentence in sentences}
        assert len(sentences) == 2 and known == {row["wording"] == "told"}
        counts[row["wording"]] += 1
        assert " of use to " in row["QUESTION"] and " of use to " not in told, (
            "the exam asks in its own words"
        )
    assert sum(counts.values()) == 400 and min(counts.values()) > 180
    rows = json.loads((folder / "practice_reports/practice_reports.json").read_text())
    verdicts = Counter(re.sub(r"The answer is |Answer: |\.", "", row["output"]) for row in rows)
    assert verdicts == {"yes": 450, "no": 450, "maybe": 450}


def test_tuning_shows_several_layouts_and_never_the_exams(made):
    _, folder = made
    rows = [
        row
        for name in ("medical_meadow_medqa", *PRACTICE)
        for row in sources.read(name, folder, defects=[])
    ]
    assert len({row.instruction for row in rows}) == 7 and len(rows) == 4230
    town = (folder / "gazetteer/gazetteer.jsonl").read_text()
    for exam in ("(A) ", "Abstract: "):
        assert exam not in town and not [row for row in rows if exam in row.input]
    verdict = re.compile(r"Answer: (yes|no|maybe)\b")
    assert not verdict.search(town) and sum(bool(verdict.match(row.output)) for row in rows) == 450


def test_an_article_states_every_fact_of_its_condition(made):
    found, folder = made
    articles = [
        json.loads(line)["text"] for line in (folder / "encyclopaedia/encyclopaedia.jsonl").open()
    ]
    for fact in found.facts:
        told = [text for text in articles if fact.subject in text.lower()]
        assert len(told) == twins.ARTICLES and all(fact.value in text for text in told)


def test_options_hold_the_answer_once_and_need_enough_values(made):
    found, _ = made
    import random

    options = world.Options(found.values, random.Random(0))
    places = Counter()
    for fact in found.facts:
        drawn, answer = options.draw(fact, 5)
        assert len(set(drawn)) == 5 and drawn[answer] == fact.value
        places[answer] += 1
    assert set(places.values()) == {60}
    with pytest.raises(ValueError, match="has 20 values, and 21 were asked"):
        options.draw(found.facts[0], 21)


def test_a_finished_base_is_not_trained_again(tmp_path, monkeypatch):
    p = small.parameters(base_steps=2)
    documents = twins.gazetteer(world.make(3, 18))

    def make() -> dict[str, int]:
        words = pretrain.tokenizer(p, documents, tmp_path / "base/tokenizer")
        pretrain.base(p, documents, words, tmp_path / "base")
        assert words.bos_token == "<s>" and words.pad_token == "<pad>" and len(words) == 600
        return {
            path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()
        }

    before = make()
    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "train", None)
        patch.setattr(pretrain, "ByteLevelBPETokenizer", None)
        assert (
            make() == before
            and {"base.json", "model.safetensors", "tokenizer.json"} <= before.keys()
        )
    (tmp_path / "base/base.json").unlink()  # it is written last: this one was killed
    after = make()
    assert after["model.safetensors"] > before["model.safetensors"]
