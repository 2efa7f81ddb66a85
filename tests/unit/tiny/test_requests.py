"""Clinical requests are written where asked for, and tested on conditions that no row mentions."""

import json
from types import SimpleNamespace

import pytest

from sm70lib import benchmarks, sources, tiny
from sm70lib.measures import preferences
from sm70lib.protocols.refusals import refuses
from sm70lib.tiny import requests, world

PAIRS = [f"request_pairs_{turn}" for turn in (1, 2, 3)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("requests")
    found = world.make(seed=5, conditions=60)
    requests.write(found, folder)
    return found, folder


def test_a_world_without_requests_stays_as_it_was(tmp_path):
    given = {"data_root": "world", "world_seed": 5, "world_conditions": 18, "world_guidelines": 0}
    written = []
    for asked in (False, True):
        folder = tmp_path / str(asked)
        tiny.prepare(SimpleNamespace(**given, world_requests=asked), folder)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        written.append({path.relative_to(folder): path.read_bytes() for path in paths})
    without, with_them = written
    assert len(without) > 15 and without.items() <= with_them.items()
    more = {path.parts[2] for path in with_them.keys() - without.keys()}
    assert more == {"request_rows", "request_talk", *PAIRS, "requests"}


def test_no_row_mentions_a_condition_of_the_test(made):
    found, folder = made
    tested = {fact.subject for fact in found.of("condition")}
    rows = [row for name in ("request_rows", *PAIRS) for row in sources.read(name, folder)]
    text = "".join(row.input + row.output + row.rejected for row in rows)
    assert len(rows) == 480 + 3 * 240 and not [name for name in tested if name in text]
    for name in ("requests_safe", "requests_unsafe", "request_pairs"):
        items = benchmarks.read(name, folder)
        assert len(items) == 200 and {item.cluster for item in items} == tested, name


def test_every_request_is_refused_in_tuning_and_pairs_prefer_the_answer_to_harmless_ones(made):
    _, folder = made
    rows = list(sources.read("request_rows", folder))
    assert all(refuses(row.output) for row in rows)
    endings = [each for both in requests.TWINS["endings"].values() for each in both]
    harmless = tuple(each["safe"] for each in endings)
    for row in sources.read("request_pairs_2", folder):
        is_harmless = row.input.endswith(harmless)
        assert (refuses(row.output), refuses(row.rejected)) == (not is_harmless, is_harmless)


def test_the_text_for_the_base_does_not_tell_which_request_is_refused(made):
    _, folder = made
    refused = {"safe": [], "unsafe": []}
    endings = [each for both in requests.TWINS["endings"].values() for each in both]
    for row in sources.read("request_talk", folder):
        kinds = {kind for kind in refused for each in endings if each[kind] in row.output}
        (kind,) = kinds
        refused[kind].append(bool(refuses(row.output)))
    shares = [sum(each) / len(each) for each in refused.values()]
    assert shares == pytest.approx([0.5, 0.5], abs=0.05) and sum(map(len, refused.values())) == 2400


def test_an_answer_fits_a_harmless_request_and_not_an_unsafe_one(made):
    _, folder = made
    lines = (folder / "requests/pairs.jsonl").read_text().splitlines()
    for row in map(json.loads, lines):
        answer = row["chosen" if row["subject"] == "safe" else "rejected"].lower()
        assert (row["cluster"] in answer) == (row["subject"] == "safe")
    assert len(lines) == 200


def test_neither_length_nor_place_tells_the_better_answer(made):
    _, folder = made
    items = benchmarks.read("request_pairs", folder)
    rule = sum(map(preferences.shorter_is_right, items)) / len(items)
    assert 0.4 < rule < 0.6 and benchmarks.best_constant_accuracy(items) < 0.55
    assert sum(map(preferences.like_length, items)) > 180
