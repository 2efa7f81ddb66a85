"""The audit: real leaks found, no false alarms, each check with its policy, tables that add up."""

import json
import random
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from sm70lib import benchmarks, sources
from sm70lib.benchmarks import Item
from sm70lib.benchmarks.details import Details
from sm70lib.corpus import audit, findings, overlap
from sm70lib.corpus.audit import CHECKS
from sm70lib.corpus.overlap import Overlap
from sm70lib.sources import Row, wordings
from sm70lib.sources.causal import CAUSAL
from sm70lib.study.params import StudyError

REPORT = dict.fromkeys(("duplicate", "personal", "label", "leak"), "report")
DROP = dict.fromkeys(REPORT, "drop")
MEADOW = "medical_meadow_wikidoc"
REAL = ["medqa_4", "pubmedqa", "medmcqa", "mmlu_medical", "truthfulqa"]


def row(input: str, output: str = "A", instruction: str = "Answer", number: int = 0) -> Row:
    return Row(MEADOW, number, instruction, input, output, "f.json")


def run(
    names: list[str], root, items: list[Item], policies: dict[str, str]
) -> tuple[audit.Audit, list[Row]]:
    """The audit of some sources, and the rows that it keeps."""
    checks, found, kept = (
        audit.Checks(items, policies, root),
        audit.Audit(Counter(i.benchmark for i in items)),
        [],
    )
    for name in names:
        one = found.found[name] = findings.Findings()
        kept += checks.screen(sources.read(name, root, one.defects), one)
    return found, kept


def put(root, rows: list[tuple[str, str]], name: str = MEADOW) -> None:
    (root / name).mkdir()
    rows = [{"instruction": "Answer", "input": input, "output": output} for input, output in rows]
    (root / name / f"{name}.json").write_text(json.dumps(rows))


STEM = (
    "A traveller from the northern valley notices that both of her thumbs turn green after "
    "supper; what?"
)
OPTIONS = (
    "boil the thumbs in salted water",
    "wait until the moon is full",
    "eat a lemon",
    "call the weaver",
)
WHY = (
    "Lemons take the green colour out of the thumbs within an hour. Nothing else in the whole "
    "valley has ever been of any use against it."
)
ITEM = Item("i", "i", "medqa_4", STEM, "", OPTIONS, 2, Details(explanation=WHY))
SHORT = Item("s", "s", "mmlu_medical", "Which is true?", "", ("10", "20", "30", "40"), 1)


@pytest.fixture(scope="module")
def real(shared_data) -> dict[str, list[Item]]:
    return {name: benchmarks.read(name, shared_data, defects=[]) for name in REAL}


def test_meadow_mmmlu_holds_all_1089_medical_mmlu_items_and_little_else(shared_data, real):
    items = [item for name in REAL for item in real[name]]
    started = time.process_time()
    found, _ = run(
        ["medical_meadow_mmmlu", "medquad", "med_safety_bench"], shared_data, items, REPORT
    )
    assert time.process_time() - started < 20
    table = found.contamination().set_index(["source", "benchmark"])
    assert len(table) == 15 and (table["any"] >= table["exact"]).all()
    leak = table.loc["medical_meadow_mmmlu", "mmlu_medical"]
    assert leak["items"] == leak["exact"] == leak["any"] == 1089
    assert leak["ngram13"] < leak["ngram8"] < 1089  # n-grams alone miss short questions
    assert table["any"].sum() == 1089
    hits = found.hits()
    assert hits[(hits["field"] == "question") & hits["answer"]]["item_id"].nunique() == 1089
    assert hits[(hits["field"] == "options") & hits["exact"]]["item_id"].nunique() > 800
    assert found.funnel().loc["medquad", ["rows", "read", "kept"]].tolist() == [1119, 80, 1039]


def test_one_test_item_that_medqa_dev_nearly_repeats_is_found(shared_data, real):
    dev = [
        row(item.question, item.options[item.answer], number=n)
        for n, item in enumerate(benchmarks.read("medqa_4", shared_data, "dev"))
    ]
    hits = Overlap(real["medqa_4"]).find(dev)
    assert len(dev) == 1272 and 1 <= len({hit["item_id"] for hit in hits}) <= 3
    assert all(hit["share"] < 1 and not hit["exact"] for hit in hits)


def copies(item: Item, rng: random.Random) -> dict[str, Row]:
    """Rows that repeat an item in changed form."""
    options = list(item.options)
    rng.shuffle(options)
    words = item.question.split()
    words[rng.randrange(len(words))] = "something"
    lettered = ";".join(f"{letter}:{option}" for letter, option in zip("ABCDE", options))
    return {
        "case and punctuation": row(item.question.upper().replace(",", " ;").rstrip("?.") + " ..."),
        "option order": row(f"Q:{item.question}? \n{lettered}"),
        "python options": row(f"Q:{item.question}? \n{dict(zip('ABCDE', options))},", "x"),
        "one word changed": row(" ".join(words)),
        "inside a passage": row(
            f"As one reads in old books of the valley: {item.question} Who knows."
        ),
    }


def test_near_copies_are_found_at_a_stated_recall(real):
    rng, items = random.Random(0), real["medqa_4"][:300]
    changed, index, recall = [copies(item, rng) for item in items], Overlap(items), {}
    for kind in changed[0]:
        rows = [replace(copy[kind], row=number) for number, copy in enumerate(changed)]
        found = {(hit["row"], hit["item_id"]) for hit in index.find(rows)}
        recall[kind] = np.mean([(number, item.id) in found for number, item in enumerate(items)])
    assert len(items) == 300 and len(recall) == 5
    assert min(recall.values()) >= 0.99, recall


def test_a_conclusion_that_repeats_in_training_is_found_in_the_field_explanation(real):
    some = [item for item in real["pubmedqa"] if len(item.details.explanation.split()) > 20][:200]
    rows = [
        row("Tell me something.", item.details.explanation.split(". ")[0], number=number)
        for number, item in enumerate(some)
    ]
    long = {one.row for one in rows if len(overlap.words(one.output)) >= 12}
    hits = Overlap(real["pubmedqa"]).find(rows)
    own = {
        hit["row"]
        for hit in hits
        if hit["item_id"] == some[hit["row"]].id and hit["field"] == "explanation"
    }
    assert len(some) == 200 and len(long) > 150 and len(own & long) / len(long) > 0.99
    assert not {hit["field"] for hit in hits} - {
        "explanation",
        "context",
    }  # an abstract may say it twice


def test_no_row_of_medquad_is_taken_for_a_question_of_medqa(shared_data, real):
    rows = list(sources.read("medquad", shared_data, []))
    assert (len(rows), len(real["medqa_4"])) == (1039, 1273)
    assert Overlap(real["medqa_4"]).find(rows) == []  # false alarms: 0 of 1,039


def test_fields_are_told_apart_and_short_ones_count_only_with_their_options():
    index = Overlap([ITEM, SHORT])
    lettered = "A:40;B:30;C:20;D:10"
    cases = {
        row(STEM): [("i", "question", True)],
        row("Which is true?"): [],
        row(f"Q:Which is false? \n{lettered}"): [],
        row(f"Q:Which is true?? \n{lettered}", "C"): [("s", "question", True)],
        row(
            "What about lemons?", "Lemons take the green colour out of the thumbs within an hour."
        ): [("i", "explanation", False)],
        row("Who helps?", "boil the thumbs in salted water"): [],
        row(f"Q:Thumbs? \n{dict(zip('ABCD', reversed(OPTIONS)))},"): [("i", "options", True)],
        row("A traveller from the northern valley buys some bread."): [],
        row("", "A", STEM): [("i", "question", True)],
        row("", "", ""): [],
    }
    for number, (case, expected) in enumerate(cases.items()):
        found = [(hit["item_id"], hit["field"], hit["exact"]) for hit in index.find([case])]
        assert found == expected, (number, case, found)
    assert index.find([row(f"Q:Which is true?? \n{lettered}", "C")])[0]["answer"]
    assert len(cases) == 10 and index.find([]) == [] == Overlap([]).find([row(STEM)])


def test_phrases_of_many_items_and_frequent_words_are_no_overlap():
    ask = "Which of the following is the most likely cause of the findings in this patient with "
    items = [
        Item(str(n), str(n), "medqa_4", f"{ask}number{n} fever", "", ("a", "b"), 0)
        for n in range(40)
    ]
    assert Overlap(items).find([row(ask + "an unheard of rash")]) == []
    assert [hit["item_id"] for hit in Overlap(items).find([row(ask + "number7 fever")])] == ["7"]


SCRIPTS = {  # a question, and another one
    "Chinese": (
        "患者，男，45岁，突发胸痛两小时，首选的检查是什么？",
        "高血压患者应当如何限制每日的盐摄入量？",
    ),
    "Japanese": (
        "四十五歳の男性が胸痛を訴えている。最初の検査はどれか。",
        "高血圧の治療について正しいのはどれか。",
    ),
    "Thai": ("ผู้ป่วยชายมีอาการเจ็บหน้าอกควรตรวจอะไร", "โรคเบาหวานรักษาอย่างไรให้ได้ผลดีที่สุด"),
    "Hindi": (
        "पैंतालीस वर्ष के पुरुष को सीने में दर्द है पहली जाँच क्या होगी",
        "पन्तल वरषा का परष का सन म दरद ह पहल जच कय हग",  # the same consonants
    ),
    "Arabic": (
        "رجل عمره خمسة وأربعون عاما يشكو من ألم في الصدر",
        "ما هو العلاج الأول لارتفاع ضغط الدم عند الحامل اليوم",
    ),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_question_in_another_script_is_found_and_another_question_is_not(script):
    asked, other = SCRIPTS[script]
    index = Overlap([ITEM, SHORT, Item("c", "c", "medqa_4", asked, "", ("阿司匹林", "肝素"), 0)])
    [hit] = index.find([row(asked)])
    assert (hit["item_id"], hit["field"], hit["exact"]) == ("c", "question", True)
    assert [hit["item_id"] for hit in index.find([row(f"1. {asked} A.阿司匹林 B.肝素")])] == ["c"]
    assert index.find([row(other)]) == []


def test_voweled_arabic_is_found_where_the_item_has_no_vowels():
    asked = SCRIPTS["Arabic"][0]
    voweled = asked.replace("رجل", "رَجُلٌ").replace("ألم", "أَلَـــمٍ")
    [hit] = Overlap([Item("c", "c", "medqa_4", asked, "", ("a", "b"), 0)]).find([row(voweled)])
    assert hit["exact"] and voweled != asked


ROWS = [
    ("What is velorum?", "A fever."),
    ("what is  VELORUM?", "a fever."),
    ("Who knows?", "me@example.org"),
    ("Whom do I call?", "+1 555 010 0199"),
    ("What is this?", ""),
    (STEM, "C"),
    (STEM, "C"),
    ("How long is 1990-2020 or 10.1000/123-456-7890?", "30 years, 1200-1300 mg, 12345-67890"),
]


def test_findings_are_listed_once_per_check_and_dropped_by_policy(tmp_path):
    put(tmp_path, ROWS)
    found, kept = run([MEADOW], tmp_path, [ITEM], DROP)
    listed = [(defect.row, defect.check, defect.reason) for defect in found.defects]
    assert listed == [
        (4, "read", "empty output"),
        (1, "duplicate", "same text as an earlier row"),
        (2, "personal", "e-mail address"),
        (3, "personal", "telephone number"),
        (5, "leak", "stands in medqa_4"),
        (6, "duplicate", "same text as an earlier row"),
        (6, "leak", "stands in medqa_4"),
    ]
    assert "example.org" not in str(found.defects)
    assert found.funnel().loc[MEADOW].to_dict() == {
        "rows": 8,
        "read": 1,
        "duplicate": 2,
        "personal": 2,
        "label": 0,
        "leak": 1,
        "length": 0,
        "kept": 2,
    }
    assert [one.row for one in kept] == [0, 7]
    assert found.examples()["check"].tolist() == ["duplicate", "leak", "duplicate", "leak"]
    assert "example.org" not in str(found.examples().to_dict())
    reported, kept = run([MEADOW], tmp_path, [ITEM], REPORT)
    assert len(reported.defects) == 7 and reported.funnel().loc[MEADOW, "kept"] == 7
    assert len(kept) == 7
    assert list(reported.funnel().columns) == ["rows", *CHECKS, "kept"]


def test_no_example_shows_even_a_part_of_personal_data(tmp_path):
    """An address that stands across the end of what is shown, or only in the part that is not."""
    far = "word " * 38
    put(
        tmp_path,
        [
            ("twice", "a"),
            ("twice", "a"),
            (f"{far}me@example.org", "b"),
            (f"{far}me@example.org", "b"),
            (f"{far * 2}+1 555 010 0199", "c"),
            (f"{far * 2}+1 555 010 0199", "c"),
        ],
    )
    found, _ = run([MEADOW], tmp_path, [], REPORT)
    assert len(found.defects) == 3 + 4 and found.examples()["row"].tolist() == [1]


@pytest.mark.parametrize(("check", "number"), [("duplicate", 1), ("personal", 2), ("leak", 5)])
def test_fail_ends_the_run_with_the_row(tmp_path, check, number):
    put(tmp_path, ROWS)
    with pytest.raises(
        StudyError, match=rf"audit_{check} is fail; .*\.json has in row {number}: .*; set it"
    ):
        run([MEADOW], tmp_path, [ITEM], REPORT | {check: "fail"})


SAID = (
    "This no relationship.",
    "This is a causative relationship",
    "This is a conditionally causative relationship",
    "This is a directly correlative relationship",
)
MEANT = (0, 1, 2, 3)
PERMUTED = (3, 0, 2, 1)  # which of SAID Medical Meadow has for an original label


@pytest.mark.parametrize(
    ("labels", "verdict", "wrong"),
    [(MEANT, "right", 0), (PERMUTED, "permuted", 90), ((0, 0, 0, 0), "unreliable", 90)],
)
def test_causal_labels_against_a_reference(tmp_path, labels, verdict, wrong):
    put(tmp_path, [(f"Sentence {n}.", SAID[labels[n % 4]]) for n in range(120)], CAUSAL)
    (tmp_path / "pubmed_causal_reference").mkdir()
    names = ("no relationship", "causative", "conditionally causative", "directly correlative")
    lines = [
        {"sentence": f"Sentence {n}.", "label": names[n % 4] if n % 2 else n % 4}
        for n in range(120)
    ]
    (tmp_path / "pubmed_causal_reference/all.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found, _ = run([CAUSAL], tmp_path, [], DROP)
    assert found.label_verdict()["verdict"] == verdict and found.label_verdict()["checked"] == 120
    assert found.funnel().loc[CAUSAL, "label"] == wrong
    repaired, kept = run([CAUSAL], tmp_path, [], DROP | {"label": "repair"})
    said = {one.row: one.output for one in kept}
    assert len(repaired.defects) == wrong and set(labels) <= {
        SAID.index(text) for text in said.values()
    }
    whole = set(labels) == set(
        MEANT
    )  # a sentence that the source never says cannot be written by repair
    assert {row: SAID[MEANT[row % 4]] for row in said} == said and (len(said) == 120) == whole


def test_labels_without_a_reference_are_unverifiable(tmp_path):
    put(tmp_path, [("Sentence.", SAID[0])], CAUSAL)
    found, _ = run([CAUSAL], tmp_path, [], DROP)
    assert (
        found.label_verdict() == {"checked": 0, "verdict": "unverifiable"} and found.defects == []
    )
    with pytest.raises(
        StudyError, match="audit_label is repair, but nothing says the right labels of .*; put|into"
    ):
        run([CAUSAL], tmp_path, [], DROP | {"label": "repair"})
    (tmp_path / "pubmed_causal_reference").mkdir()
    (tmp_path / "pubmed_causal_reference/labels.csv").write_text("sentence,label\nSentence.,0\n")
    assert run([CAUSAL], tmp_path, [], DROP)[0].label_verdict()["verdict"] == "right"
    put(tmp_path, [("What?", "That.")])
    assert (
        run([MEADOW], tmp_path, [], DROP)[0].label_verdict()["verdict"] == "not among the sources"
    )


BAD_REFERENCES = {  # file, content, what is said
    "an unknown label": (
        "a.csv",
        "sentence,label\nOne.,0\nTwo.,causes\nThree.,unclear\n",
        "a.csv, row 2: label is 'unclear', but labels are 0 .no relationship., 1 .causal.",
    ),
    "a denied label": (
        "a.csv",
        "sentence,label\nOne.,no causal relationship\n",
        "row 0: label is 'no causal",
    ),
    "an empty label": ("a.csv", "sentence,label\nOne.,\n", "row 0: label is '', but"),
    "a label that is null": (
        "a.jsonl",
        '{"sentence": "One.", "label": null}',
        "row 0: label is None, but",
    ),
    "a number too high": ("a.jsonl", '{"sentence": "One.", "label": 4}', "row 0: label is 4, but"),
    "no column of labels": (
        "a.csv",
        "sentence,class\nOne.,1\n",
        "row 0: there is nothing under label, only sentence, class; name the column",
    ),
    "no column of sentences": ("a.csv", "text,label\nOne.,1\n", "row 0: no text under sentence"),
    "a broken row": (
        "a.csv",
        "sentence,label\nOne.,1\nTwo, three.,1\n",
        "row 1: no readable record",
    ),
}


@pytest.mark.parametrize("kind", BAD_REFERENCES)
def test_a_reference_with_a_fault_is_refused_and_relabels_nothing(tmp_path, kind):
    name, content, said = BAD_REFERENCES[kind]
    put(tmp_path, [("One.", SAID[1])], CAUSAL)
    (tmp_path / "pubmed_causal_reference").mkdir()
    (tmp_path / "pubmed_causal_reference" / name).write_text(content)
    for policy in ("report", "repair"):
        with pytest.raises(StudyError, match=said):
            run([CAUSAL], tmp_path, [], DROP | {"label": policy})
    assert len(BAD_REFERENCES) == 8


def test_a_sentence_with_two_labels_is_no_reference_and_an_unknown_label_is_a_finding(tmp_path):
    rows = [
        ("One.", SAID[1]),
        ("Two.", SAID[2]),
        ("Three.", "Nobody can say."),
        ("Four.", "No causal relationship"),
    ]
    put(tmp_path, rows, CAUSAL)
    (tmp_path / "pubmed_causal_reference").mkdir()
    lines = "sentence,label\nOne.,1\nTwo.,2\nTwo.,3\nThree.,2\nFour.,none\n"
    (tmp_path / "pubmed_causal_reference/all.csv").write_text(lines)
    found, kept = run([CAUSAL], tmp_path, [], REPORT)
    assert [(defect.row, defect.reason) for defect in found.defects] == [
        (2, "label of no known kind"),
        (3, "label of no known kind"),
    ] and len(kept) == 4
    assert found.label_verdict()["checked"] == 1
    found, kept = run([CAUSAL], tmp_path, [], REPORT | {"label": "repair"})
    assert {one.row: one.output for one in kept} == {
        0: SAID[1],
        1: SAID[2],
        2: SAID[2],
    }  # nothing here says 0


def test_a_table_stands_for_each_pair_also_without_any_hit(tmp_path):
    put(tmp_path, ROWS[:1])
    table = run([MEADOW], tmp_path, [ITEM, SHORT], REPORT)[0].contamination()
    assert table.to_dict("records") == [
        {
            "source": MEADOW,
            "benchmark": name,
            "items": 1,
            "exact": 0,
            "ngram8": 0,
            "ngram13": 0,
            "any": 0,
        }
        for name in ("medqa_4", "mmlu_medical")
    ]


def test_every_row_of_the_real_leak_parses_into_stem_and_options(shared_data):
    rows = list(sources.read("medical_meadow_mmmlu", shared_data))
    assert (
        sum(list(wordings.unwrap(one.input)[1]) == list("ABCD") for one in rows)
        == len(rows)
        == 3787
    )
