"""Guidelines tell what nothing else in the world tells, and their control tells none of it."""

from types import SimpleNamespace

import pytest

from sm70lib import benchmarks, sources, tiny
from sm70lib.tiny import guidelines, twins, world

SEED = 5


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a study with twenty further conditions, and its world."""
    folder = tmp_path_factory.mktemp("guidelines")
    found = world.make(SEED, 60)
    guidelines.write(found, 20, folder)
    return found, folder


def told(folder, name: str) -> list[str]:
    return [row.output for row in sources.read(name, folder)]


def test_new_conditions_stand_nowhere_else(made):
    found, folder = made
    items = benchmarks.read("new_facts", folder)
    subjects = {item.cluster for item in items}
    assert (len(items), len(subjects)) == (100, 20)
    elsewhere = " ".join([*twins.encyclopaedia(found), *twins.gazetteer(found)]).lower()
    assert not [subject for subject in subjects if subject in elsewhere]
    text = " ".join(told(folder, "tiny_guidelines")).lower()
    assert all(subject in text for subject in subjects)


def test_no_guideline_has_the_sentence_that_is_asked_and_each_fact_is_told(made):
    _, folder = made
    text = " ".join(told(folder, "tiny_guidelines"))
    sentences = text.split(". ")
    for item in benchmarks.read("new_facts", folder):
        assert item.question not in text
        named = [s for s in sentences if item.cluster in s.lower()]
        right = item.options[item.answer]
        assert sum(right in s for s in named) > 20
        assert not any(value in s for s in named for value in item.options if value != right)


def test_the_control_has_the_same_words_and_no_true_fact(made):
    found, folder = made
    facts = guidelines.further(found, 20)
    false = guidelines.permuted(facts, SEED)
    assert sorted(fact.value for fact in facts) == sorted(fact.value for fact in false)
    assert all(a.value != b.value and a.subject == b.subject for a, b in zip(facts, false))
    words = [set(" ".join(told(folder, name)).split()) for name in sorted(BOTH)]
    assert len(words[0] ^ words[1]) < 0.02 * len(words[0])  # ends of sentences fall differently


BOTH = ("tiny_guidelines", "tiny_guidelines_permuted")


def test_no_guesser_gains_and_old_text_is_about_every_known_subject(made):
    found, folder = made
    items = benchmarks.read("new_facts", folder)
    assert benchmarks.best_constant_accuracy(items) < 0.37
    assert {item.details.kind for item in items} == {guidelines.NEW}
    old = benchmarks.read("old_text", folder)
    assert len({item.cluster for item in old}) == 100 == len(old)
    assert len(benchmarks.read("new_text", folder)) == 20


def test_a_world_without_guidelines_has_the_files_that_it_had(tmp_path):
    p = SimpleNamespace(
        data_root="world", world_seed=SEED, world_conditions=18, world_requests=False
    )
    for count, folder in ((0, tmp_path / "without"), (6, tmp_path / "with")):
        tiny.prepare(SimpleNamespace(**vars(p), world_guidelines=count), folder)
    twins.write(world.make(SEED, 18), tmp_path / "before/base/world")
    files = {
        name: {
            path.relative_to(tmp_path / name): path.read_bytes() for path in paths(tmp_path / name)
        }
        for name in ("before", "without", "with")
    }
    assert files["without"] == files["before"] and len(files["before"]) > 15
    assert files["before"].items() < files["with"].items()


def paths(folder):
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]
