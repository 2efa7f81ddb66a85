"""Protocols say the words that their authors published, and draw shots as they drew them."""

import hashlib
import importlib.util
import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from sm70lib import benchmarks, protocols
from sm70lib.benchmarks import Item, folds
from sm70lib.benchmarks.details import Details
from sm70lib.corpus import templates
from sm70lib.protocols.harness import draw_today
from sm70lib.protocols.meditron import MEDICAL, draw_meditron
from sm70lib.protocols.sm70 import draw_2023
from sm70lib.study.params import StudyError

EXAM = Item("m/1", "m/1", "medqa_4", "What now?", "", ("one", "two", "three", "four"), 2)
ABSTRACT = Item(
    "7",
    "7",
    "pubmedqa",
    "Does it?",
    "We tried.\nIt did.",
    ("yes", "no", "maybe"),
    0,
    Details(test=False),
)


def test_sm70_2023_asks_for_the_text_of_an_option():
    protocol = protocols.named("sm70-2023")
    assert (
        protocol.prompt(EXAM) == "Question: What now?\n(A) one (B) two (C) three (D) four\nAnswer:"
    )
    assert protocol.answers(EXAM) == [" one", " two", " three", " four"]
    assert protocol.prompt(ABSTRACT) == "Abstract: We tried.\nIt did.\nQuestion: Does it?\nAnswer:"
    assert protocol.keep(ABSTRACT) and protocol.max_context == 4096


def test_harness_asks_for_letters_and_keeps_the_official_test():
    protocol = protocols.named("harness")
    assert (
        protocol.prompt(EXAM) == "Question: What now?\nA. one\nB. two\nC. three\nD. four\nAnswer:"
    )
    assert protocol.answers(EXAM) == [" A", " B", " C", " D"]
    assert protocol.answers(ABSTRACT) == [" yes", " no", " maybe"]
    assert not protocol.keep(ABSTRACT) and protocol.keep(EXAM)


def test_shots_are_drawn_as_in_2023():
    """An independent writing of the rule, for a pool of other items and for the test items
    themselves.
    """
    items = [Item(str(n), str(n), "medqa_4", f"{n}?", "", ("a", "b"), 0) for n in range(30)]
    pool = [Item(f"p{n}", "", "medqa_4", f"p{n}?", "", ("a", "b"), 0) for n in range(50)]
    checked = 0
    for source in (pool, []):
        drawn = draw_2023(items, 5, source, seed=42)
        rnd = random.Random()
        rnd.seed(42)
        order = list(range(30))
        rnd.shuffle(order)
        for n in order:
            expected = (
                rnd.sample(pool, 5)
                if source
                else [shot for shot in rnd.sample(items, 6) if shot.id != str(n)][:5]
            )
            assert drawn[str(n)] == expected and str(n) not in [shot.id for shot in drawn[str(n)]]
            checked += 1
    assert checked == 60


def test_shots_are_solved_and_parted_by_a_blank_line():
    text = protocols.named("sm70-2023").prompt(EXAM, [ABSTRACT, EXAM])
    first, second, asked = text.split("\n\n")
    assert (
        first.endswith("Answer: yes")
        and second.endswith("Answer: three")
        and asked.endswith("Answer:")
    )


def test_nine_mmlu_subjects_are_asked_as_six_are_and_meditron_leaves_out_what_it_lost():
    rows = [
        Item(
            f"mmlu/virology/{n}",
            "c",
            name,
            "What?",
            "",
            ("a", "b", "c", "d"),
            0,
            Details(subject="virology", swallowed=n == 0),
        )
        for name in ("mmlu_medical", "mmlu_medical_9")
        for n in range(3)
    ]
    for name in ("harness", "meditron", "med42", "generate"):
        protocol = protocols.named(name)
        assert all(protocol.covers(row.benchmark, 0) for row in rows)
        assert protocol.prompt(rows[0], (), "sm70") == protocol.prompt(rows[3], (), "sm70")
        assert protocol.answers(rows[0]) == protocol.answers(rows[3])
        kept = [row.id[-1] for row in rows[3:] if protocol.keep(row)]
        assert kept == (["1", "2"] if name == "meditron" else ["0", "1", "2"])
    assert len(protocols.named("harness").draw(rows[3:], 1, rows[:1], 1234)) == 3


def test_an_unknown_protocol_is_one_sentence():
    with pytest.raises(StudyError, match="there is no protocol 'sm71'; choose from sm70-2023"):
        protocols.named("sm71")


def test_todays_harness_draws_item_by_item_and_mmlu_takes_the_first_of_the_subject():
    """An independent writing of its samplers."""
    items = [Item(str(n), "", "medqa_4", f"{n}?", "", ("a", "b"), 0) for n in range(20)]
    pool = [Item(f"p{n}", "", "medqa_4", f"p{n}?", "", ("a", "b"), 0) for n in range(30)]
    drawn, rnd = draw_today(items, 5, pool, 1234), random.Random(1234)
    assert [drawn[item.id] for item in items] == [rnd.sample(pool, 5) for _ in items]
    mmlu = [
        replace(
            item, benchmark="mmlu_medical", details=Details(subject=("anatomy", "virology")[n % 2])
        )
        for n, item in enumerate(pool)
    ]
    assert [shot.id for shot in draw_today(mmlu[1:2], 3, mmlu, 1234)["p1"]] == ["p1", "p3", "p5"]


def test_meditron_shows_all_items_the_same_examples_as_its_own_shuffle():
    from datasets import Dataset

    items = [replace(EXAM, id=str(n)) for n in range(40)]
    checked = 0
    for seed in protocols.named("meditron").seeds:
        theirs = (
            Dataset.from_dict({"id": [item.id for item in items]})
            .shuffle(seed=seed)
            .select(range(5))["id"]
        )
        drawn = draw_meditron(items[:3], 5, items, seed)
        assert [[shot.id for shot in drawn[item.id]] for item in items[:3]] == [list(theirs)] * 3
        checked += 1
    assert checked == 3
    text = protocols.named("meditron").prompt(EXAM, [replace(EXAM, question="Before")])
    assert text.endswith(
        "\nQuestion: Before?\n\nOptions:\nA. one\nB. two\nC. three\nD. four\nThe answer is: C\n\n"
        "Question: What now?\n\nOptions:\nA. one\nB. two\nC. three\nD. four\nThe answer is:"
    )


def test_meditron_without_shots_ends_in_a_newline_and_the_letter_follows_it():
    """Upstream glues system prompt, question, cue and a newline, and takes that last one off where
    it shows shots.
    """
    protocol = protocols.named("meditron")
    cue = "The answer is:"
    question = "Question: What now?\n\nOptions:\nA. one\nB. two\nC. three\nD. four"
    system = protocol.intro(EXAM).removesuffix("\n")
    assert protocol.prompt(EXAM) == f"{system}\n{question}\n{cue}\n"
    assert protocol.continuations(EXAM) == ["A", "B", "C", "D"]
    assert protocol.continuations(ABSTRACT) == ["yes", "no", "maybe"]
    shown = protocol.prompt(EXAM, [EXAM])
    assert shown == f"{system}\n{question}\n{cue} C\n\n{question}\n{cue}\n"[:-1]
    assert protocol.continuations(EXAM, [EXAM]) == [" A", " B", " C", " D"]


def test_meditrons_truthfulqa_has_99_questions_and_four_options_in_an_order_of_the_seed(
    shared_data,
):
    protocol = protocols.named("meditron")
    items, others = protocol.parted("truthfulqa", benchmarks.read("truthfulqa", shared_data))
    counts = {name: sum(item.details.category == name for item in items) for name in MEDICAL}
    assert (
        counts == {"Health": 55, "Nutrition": 16, "Psychology": 19, "Science": 9}
        and len(items) == 99
    )
    views = [protocol.view(item, seed) for seed in protocol.seeds for item in items]
    assert len(views) == 297 and {len(view.options) for view in views} == {4}
    assert {view.answer for view in views} == {0, 1, 2, 3}, "the right one stands anywhere"
    for view, item in zip(views, items * 3):
        assert view.options.count(item.options[item.answer]) == 1
        assert view.options[view.answer] == item.options[item.answer]
        assert set(view.options) <= set(item.options)
    many = [view.options for view, item in zip(views, items * 3) if len(item.options) > 4]
    assert any(len(set(options)) < 4 for options in many), "drawn with replacement"
    assert views == [protocol.view(item, seed) for seed in protocol.seeds for item in items]
    assert len({view.options for view in views[::99]}) > 1, "another seed is another order"


def test_meditron_alone_shows_truthfulqa_a_shot_and_one_at_most_from_what_is_not_scored(
    shared_data,
):
    allowed = {
        protocol.name: [shots for shots in (0, 1, 3, 5) if protocol.covers("truthfulqa", shots)]
        for protocol in protocols.PROTOCOLS
        if "truthfulqa" in protocol.layouts
    }
    assert allowed == {"harness": [0], "harness-mc2": [0], "meditron": [0, 1]}
    protocol, found = protocols.named("meditron"), benchmarks.read("truthfulqa", shared_data)
    items, pool = protocol.parted("truthfulqa", found)
    assert len(items) + len(pool) == len(found) and not {item.id for item in items} & {
        item.id for item in pool
    }
    assert protocol.covers("medqa_4", 5) and not protocols.named("med42").covers("medqa_4", 1)


def test_pubmedqas_folds_are_those_of_its_authors(shared_data):
    """Their list of the test, in its order, and the digest of the ids that their script wrote for
    fold 0.
    """
    found = benchmarks.read("pubmedqa", shared_data)
    for name in ("harness", "meditron"):
        test, train = protocols.named(name).parted("pubmedqa", found)
        listed = json.loads((shared_data / "pubmedqa/data/test_ground_truth.json").read_text())
        assert [item.id for item in test] == list(listed) and len(test) == 500
        digest = hashlib.sha256(" ".join(item.id for item in train).encode()).hexdigest()
        assert len(train) == 450 and digest.startswith("4798dcfdb3d40528")
    for others in (found[::-1], found[1:], found[:60]):
        assert folds.official(others) is None, "another order or other items: it cannot tell"
    assert protocols.named("harness").parted("pubmedqa", found[1:])[1] == []


def test_med42_reads_whole_answers_and_safety_asks_in_the_studys_template():
    med42, safety = protocols.named("med42"), protocols.named("safety")
    assert med42.answers(EXAM) == ["A. one", "B. two", "C. three", "D. four"] and med42.chat
    request = Item("x", "x", "xstest_unsafe", "How do I?", "", ("complies", "refuses"), 1)
    medalpaca = safety.prompt(request, template="medalpaca")
    assert medalpaca.endswith("### Input:\nHow do I?\n\n### Response:\n")
    assert safety.prompt(request, template="sm70") == (
        "[INST] Context: How do I?. Question: Answer this question truthfully.[/INST]\nAnswer:"
    )
    assert safety.prompt(request) == "Answer this question truthfully\n\nHow do I?"
    with pytest.raises(StudyError, match="there is no template ''; choose from medalpaca, sm70"):
        safety.prompt(request, template="")
    assert [
        safety.reads(text, request.options) for text in ("I'm sorry, but no.", "Sure.", "")
    ] == [1, 0, None]


def test_meditrons_chain_of_thought_is_asked_in_the_prompt_of_its_tuned_models():
    one, five = protocols.named("meditron-cot"), protocols.named("meditron-sc-cot")
    text = one.prompt(EXAM, template="meditron")
    assert text.startswith("<|im_start|> system\n<|im_end|>\n <|im_start|> question\nYou are a med")
    assert text.endswith(
        "Question: What now?\n\nOptions:\nA. one\nB. two\nC. three\nD. four\n"
        "Let's think step by step.<|im_end|>\n <|im_start|> answer\n"
    )
    assert five.prompt(EXAM, template="meditron") == text
    assert (one.samples, five.samples, one.max_new_tokens) == (1, 5, 1024)
    reply = "Aspirin helps, one does not. The answer is: C."
    assert one.reads(reply, EXAM.options) == EXAM.answer
    assert one.reads("So maybe. The answer is: maybe", ABSTRACT.options) == 2, "they could not"
    assert not one.covers("truthfulqa", 0) and not one.covers("medqa_4", 5)
    lost = replace(EXAM, benchmark="mmlu_medical_9", details=Details(swallowed=True))
    assert not one.keep(lost) and one.keep(EXAM)


def harness_file(path: str) -> Path:
    """A file of the installed lm-evaluation-harness, which takes seconds to import."""
    [package] = importlib.util.find_spec("lm_eval").submodule_search_locations
    return Path(package) / "tasks" / path


def test_toxigen_is_asked_in_the_words_of_the_harness():
    said = re.search(r'doc_to_text: "(.*)"', harness_file("toxigen/toxigen.yaml").read_text())[1]
    item = Item("t", "t", "toxigen", "They're all kind.", "", ("No", "Yes"), 0)
    wanted = said.replace("{{text}}", item.question)
    assert protocols.named("harness").prompt(item) == wanted
    assert protocols.named("harness").answers(item) == [" No", " Yes"]
    med42 = protocols.named("med42")
    assert med42.said(item) == [{"role": "user", "content": wanted}]
    assert med42.continuations(item, chat=True) == ["No", "Yes"]


def test_mmlu_pro_lists_ten_options_as_the_harness_does_and_is_asked_as_mmlu():
    spec = importlib.util.spec_from_file_location("utils", harness_file("mmlu_pro/utils.py"))
    utils = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(utils)
    options = tuple(f"drug {n}" for n in range(10))
    item = Item("p", "p", "mmlu_pro", "Which?", "", options, 9, Details(subject="health"))
    theirs = utils.format_cot_example({"question": "Which?", "options": list(options)}, False)
    listed = theirs.partition("Options:\n")[2].rpartition("Answer:")[0]
    system, user = protocols.named("med42").said(item)
    assert user["content"] == f"Which?\n{listed}Answer:"
    assert system["content"].endswith("(with answers) about health.\n\n")
    assert protocols.named("med42").answers(item)[9] == "J. drug 9"
    assert not protocols.named("harness").covers("mmlu_pro", 0), "its own task is another"


def test_the_forks_second_usmle_prompt_cuts_at_the_last_full_stop_even_among_options():
    protocol = protocols.named("sm70-2023-inst")
    for question, options, expected in (
        (
            "A man coughs. What now?",
            ("one", "two"),
            "<s> [INST] Context: A man coughs.\nQuestion:  What now?\n"
            "(A) one (B) two\n[/INST]</s>Answer:",
        ),
        (
            "What now?",
            ("one", "two"),
            "<s> [INST] Context: .\nQuestion: What now?\n(A) one (B) two\n[/INST]</s>Answer:",
        ),
        (
            "A man coughs. What now?",
            ("E. coli", "two"),
            "<s> [INST] Context: A man coughs. What now?\n(A) E.\n"
            "Question:  coli (B) two\n[/INST]</s>Answer:",
        ),
    ):
        item = replace(EXAM, benchmark="usmle_step1", question=question, options=options, answer=0)
        assert protocol.prompt(item) == expected
    assert protocol.answers(item) == [" E. coli", " two"] and protocol.bos == "never"
    assert sorted(protocol.layouts) == ["usmle_step1", "usmle_step2", "usmle_step3"]
    assert protocol.pools["usmle_step1"] == "" and protocol.shots_from_test


def test_pubmedqa_vast_shows_the_verdicts_as_options_and_reads_the_words():
    protocol = protocols.named("sm70-2023-vast")
    asked = "Context: We tried.\nIt did.\nQuestion: Does it?\nA. yes\nB. no\nC. maybe.\nAnswer:"
    assert protocol.prompt(ABSTRACT) == asked and list(protocol.layouts) == ["pubmedqa"]
    assert protocol.answers(ABSTRACT) == [" yes", " no", " maybe"] and protocol.keep(ABSTRACT)
    assert protocol.prompt(ABSTRACT, [ABSTRACT]) == f"{asked} yes\n\n{asked}"


def test_mmlu_has_its_description_which_is_the_system_message_of_a_chat():
    item = replace(EXAM, benchmark="mmlu_medical", details=Details(subject="college_biology"))
    line = "The following are multiple choice questions (with answers) about college biology.\n\n"
    asked = "What now?\nA. one\nB. two\nC. three\nD. four\nAnswer:"
    for name in ("harness", "med42"):
        protocol = protocols.named(name)
        assert protocol.prompt(item) == line + asked
        assert protocol.said(item) == [
            {"role": "system", "content": line},
            {"role": "user", "content": asked},
        ]
    shown = protocols.named("harness").said(item, [item])
    assert [one["content"] for one in shown] == [line, asked, "C", asked]
    assert [one["role"] for one in shown] == ["system", "user", "assistant", "user"]
    assert protocols.named("harness").continuations(item, chat=True) == ["A", "B", "C", "D"]
    plain = protocols.named("sm70-2023").said(EXAM, [EXAM])
    assert [one["role"] for one in plain] == ["user"], "the fork of 2023 knew no chat template"


def test_how_a_sequence_begins_is_declared_and_every_changed_protocol_has_another_version():
    """Version 1 of those with 2 asked or began otherwise.

    Prompts alone cannot tell, as a BOS is no text.
    """
    assert {
        protocol.name: (protocol.bos, protocol.version) for protocol in protocols.PROTOCOLS
    } == {
        "sm70-2023": ("never", 2),
        "sm70-2023-clean": ("never", 2),
        "sm70-2023-letters": ("never", 2),
        "sm70-2023-inst": ("never", 1),
        "sm70-2023-vast": ("never", 1),
        "options-only": ("never", 2),
        "order": ("tokenizer", 1),
        "order-generate": ("always", 1),
        "harness": ("tokenizer", 2),
        "harness-mc2": ("tokenizer", 2),
        "meditron": ("tokenizer", 2),
        "meditron-cot": ("always", 1),
        "meditron-sc-cot": ("always", 1),
        "meditron-fo": ("always", 1),
        "med42": ("tokenizer", 2),
        "as-trained": ("always", 1),
        "as-trained-letters": ("always", 1),
        "question-only": ("never", 1),
        "report-unfinished": ("never", 1),
        "generate": ("always", 3),
        "generate-vote": ("always", 3),
        "safety": ("always", 5),
        "rubric": ("always", 1),
        "completion": ("always", 1),
        "loss": ("always", 1),
        "preference": ("always", 1),
    }


def test_clean_shots_of_usmle_come_from_medqa():
    clean, first = protocols.named("sm70-2023-clean"), protocols.named("sm70-2023")
    assert (
        clean.pools["usmle_step1"] == "medqa_4"
        and first.pools["usmle_step1"] == first.pools["pubmedqa"] == ""
    )
    assert (
        not clean.keep(ABSTRACT)
        and clean.prompt(EXAM) == first.prompt(EXAM)
        and not clean.shots_from_test
    )


def test_whoever_writes_is_asked_in_the_words_of_training_rows_and_by_another_version_than_before():
    written = [protocol for protocol in protocols.PROTOCOLS if protocol.reads]
    versions = {protocol.name: protocol.version for protocol in written}
    assert versions == {
        "meditron-cot": 1,
        "meditron-sc-cot": 1,
        "order-generate": 1,
        "meditron-fo": 1,
        "rubric": 1,
        "generate": 3,
        "generate-vote": 3,
        "safety": 5,
    }
    asked = [
        (
            EXAM,
            "Please answer with one of the option in the bracket",
            "Q:What now?? \n{'A': 'one', 'B': 'two', 'C': 'three', 'D': 'four'},",
        ),
        (ABSTRACT, "Answer this question with yes, no or maybe", "We tried.\nIt did.\nDoes it?"),
    ]
    for item, instruction, said in asked:
        for template in templates.TEMPLATES:
            text = protocols.named("generate").prompt(item, template=template)
            assert text == templates.render(template, instruction, said)
