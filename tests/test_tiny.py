"""The fictional medicine is balanced, its held-out kinds are held out, and its files read like the real ones."""

import json
from collections import Counter

import pytest

from sm70lib import benchmarks, sources
from sm70lib.tiny import pretrain, twins, world
from tests import small

SIZES = {"medqa_4": 300, "pubmedqa": 300, "usmle_step1": 100, "usmle_step2": 100, "usmle_step3": 100, "truthfulqa": 300}
SOURCES = ["medical_flashcards", "wikidoc", "wikidoc_patient_information", "medqa", "mmmlu", "pubmed_causal",
           "health_advice", "cord19"]


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
    assert Counter(fact.kind for fact in found.facts) == {"known": 120, "fact": 80, "condition": 100}


def test_the_same_seed_gives_the_same_files_and_another_seed_another_world(made, tmp_path):
    found, folder = made
    twins.write(world.make(seed=5, conditions=60), tmp_path)
    files = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    assert len(files) > 15 and all((folder / name).read_bytes() == (tmp_path / name).read_bytes() for name in files)
    other = world.make(seed=6, conditions=60)
    assert not {fact.subject for fact in found.facts} & {fact.subject for fact in other.facts}


def test_benchmarks_are_large_enough_and_no_guesser_gains(made):
    _, folder = made
    for name, least in SIZES.items():
        items = benchmarks.read(name, folder)
        assert len(items) >= least, name
        if name != "truthfulqa":
            assert benchmarks.best_constant_accuracy(items) < 0.37, name
        assert {item.meta["kind"] for item in items} == set(world.KINDS), name


def test_tuning_never_mentions_what_is_held_out(made):
    """Apart from the planted leaks, which the audit drops."""
    found, folder = made
    text = "".join((folder / f"medical_meadow_{name}/medical_meadow_{name}.json").read_text()
                   for name in SOURCES if name != "mmmlu")
    silent = [fact.subject for fact in found.of("condition")]
    assert len(set(silent)) == 20 and not [subject for subject in silent if subject in text]
    rows = [row for name in SOURCES if name not in ("mmmlu", "cord19") for row in sources.read(
        f"medical_meadow_{name}", folder, defects=[])]
    for fact in found.of("fact"):
        told = [row for row in rows if fact.subject in row.input + row.output and fact.value in row.output]
        others = [other.value for other in found.facts if other.subject == fact.subject and other.kind == "known"]
        assert all(any(value in row.output for value in others) for row in told)
    assert len(rows) > 3000


def test_a_test_stem_never_stands_in_tuning(made):
    _, folder = made
    asked = {row.input for name in ("medqa", "medical_flashcards")
             for row in sources.read(f"medical_meadow_{name}", folder, defects=[])}
    stems = [item.question for name in ("medqa_4", "usmle_step1", "usmle_step2", "usmle_step3")
             for item in benchmarks.read(name, folder)]
    assert len(stems) >= 660 and not [stem for stem in stems if any(stem in row for row in asked)]


def test_an_article_states_every_fact_of_its_condition(made):
    found, folder = made
    articles = [json.loads(line)["text"] for line in (folder / "encyclopaedia/encyclopaedia.jsonl").open()]
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
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    before = make()
    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "train", None)
        patch.setattr(pretrain, "ByteLevelBPETokenizer", None)
        assert make() == before and {"base.json", "model.safetensors", "tokenizer.json"} <= before.keys()
    (tmp_path / "base/base.json").unlink()  # it is written last: this one was killed
    after = make()
    assert after["model.safetensors"] > before["model.safetensors"]
