"""Texts that are nearly the same: as many as an exact count finds, kept, dropped or refused."""

import json
import random
import tracemalloc

import datasets
import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from sm70lib.preparing import near
from sm70lib.sources import Row
from sm70lib.study.params import StudyError
from tests.benchmarks import meadow
from tests.unit.preparing.test_training_set import prepare

SOURCE, FILES, TEXTS = "pubmed_abstracts", 3, 12


def edited(text: str, share: float, draw: random.Random) -> str:
    """The text with this share of its words exchanged."""
    return " ".join("other" if draw.random() < share else word for word in text.split())


def exact(texts: list[str]) -> np.ndarray:
    """By sklearn's counts: the largest Jaccard index of each text with an earlier one."""
    runs = CountVectorizer(ngram_range=(near.WORDS,) * 2, token_pattern=r"[^\W_]+", binary=True)
    held = runs.fit_transform(texts).astype(int)
    shared = (held @ held.T).toarray()
    sizes = shared.diagonal()
    return np.tril(shared / (sizes[:, None] + sizes - shared), -1).max(axis=1)


def test_what_is_found_is_what_an_exact_count_finds(tmp_path, capsys):
    draw, invented = random.Random(0), meadow.Text(0)
    texts = invented.draw(invented.lengths(300, 1200))
    texts += [edited(text, draw.choice((0.005, 0.01, 0.02, 0.03, 0.05)), draw) for text in texts]
    digests = np.random.default_rng(0).permutation(len(texts)).astype(np.uint64)
    rows = [Row("s", n, "", "", text, "f", digest=int(digests[n])) for n, text in enumerate(texts)]
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, some in zip(folders, (rows[:450], rows[450:])):
        folder.mkdir()
        assert list(near.write_signatures(some, folder)) == some
    index = exact(texts)
    right, found = index >= near.ALIKE, np.isin(digests, near.near_duplicates(folders))
    recall, precision = (right & found).sum() / right.sum(), (right & found).sum() / found.sum()
    with capsys.disabled():
        print(f"\n{right.sum()} of {len(texts)} texts: {recall:.1%} found, {precision:.1%} right")
    assert right.sum() > 100 and (~right[300:]).sum() > 50
    assert recall > 0.9 and precision > 0.9
    assert found[index > 0.9].all() and not found[index < 0.7].any()


def test_texts_without_spaces_are_nearly_the_same_too(tmp_path):
    draw = random.Random(0)
    first, other = ("".join(draw.choices("病人发热咳嗽头痛乏力检查", k=400)) for _ in range(2))
    texts = [first, first[:200] + "药" + first[200:], other]
    rows = [Row("s", n, "", "", text, "f", digest=n) for n, text in enumerate(texts)]
    assert list(near.write_signatures(rows, tmp_path)) == rows
    assert near.near_duplicates([tmp_path]).tolist() == [1]


def test_a_look_keeps_sixty_bytes_of_a_text_in_memory(tmp_path):
    count, rng, folders = 30_000, np.random.default_rng(0), [tmp_path / "one", tmp_path / "two"]
    signed = np.zeros(count, near.SIGNED)
    signed["digest"] = rng.integers(0, 2**63, count)
    signed["bands"] = rng.integers(0, 2**32, (count, near.BANDS, near.NUMBERS))
    signed["bands"][-100:] = signed["bands"][:100]  # of other texts
    for folder, some in zip(folders, np.split(signed, [20_000])):
        folder.mkdir()
        some.tofile(folder / near.SIGNATURES)
    tracemalloc.start()
    found = near.near_duplicates(folders)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.tolist() == sorted(signed["digest"][-100:].tolist())
    assert peak < 70 * count


@pytest.fixture
def papers(root):
    """Three files; each text but those of the first file is one of that file, with a new end."""
    invented = meadow.Text(1)
    texts = invented.draw(invented.lengths(TEXTS, 600, 0.1))
    folder = root / SOURCE / "chunk"
    folder.mkdir(parents=True)
    for file in range(FILES):
        ends = [f" This is copy {file} of {place}." if file else "" for place in range(TEXTS)]
        lines = [json.dumps({"contents": text + end}) for text, end in zip(texts, ends)]
        (folder / f"{file}.jsonl").write_text("\n".join([*lines, json.dumps({"contents": "Hm."})]))
    return root


def text_of_study(papers, folder, tokenizer, policy):
    audit, _ = prepare(papers, folder, tokenizer, cpt_sources=[SOURCE], cpt_near_duplicates=policy)
    found = [defect for defect in audit.defects if defect.reason == near.NEARLY]
    text = datasets.load_from_disk(folder / "text")
    return audit.funnel().loc[f"{SOURCE} (text)"], found, text


def test_texts_nearly_as_an_earlier_one_are_dropped_reported_or_refused(
    papers, tmp_path, tokenizer
):
    funnel, found, text = text_of_study(papers, tmp_path / "drop", tokenizer, "drop")
    assert (funnel["rows"], funnel["kept"]) == (FILES * (TEXTS + 1), TEXTS + 1)
    later = [(f"{SOURCE}/chunk/{file}.jsonl", row) for file in (1, 2) for row in range(TEXTS)]
    assert [(defect.file, defect.row) for defect in found] == later
    assert all(defect.dropped and defect.check == "duplicate" for defect in found)
    written = "".join(tokenizer.decode(ids) for ids in text["input_ids"])
    assert "This is copy" not in written and written.count("Hm.") == 1
    funnel, found, kept = text_of_study(papers, tmp_path / "report", tokenizer, "report")
    assert funnel["kept"] == FILES * TEXTS + 1 and len(kept) > len(text)
    assert not any(defect.dropped for defect in found)
    _, found, _ = text_of_study(papers, tmp_path / "none", tokenizer, "none")
    assert not found and not list((tmp_path / "none").rglob(near.SIGNATURES))
    with pytest.raises(StudyError, match=r"cpt_near_duplicates is fail; .*/1.jsonl has in row 0: "):
        text_of_study(papers, tmp_path / "fail", tokenizer, "fail")
