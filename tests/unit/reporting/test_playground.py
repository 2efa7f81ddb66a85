"""The playground of 07: options side by side, the right one marked, a wrong answer drawn."""

import json
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from sm70lib import benchmarks
from sm70lib.models import loading, plain, writing
from sm70lib.reporting import playground
from sm70lib.study.params import StudyError
from tests import multimodal, small, synthetic

P = SimpleNamespace(
    eval_primary_protocol="sm70-2023",
    eval_primary_shots=0,
    eval_benchmarks=["medqa_4", "pubmedqa"],
    data_template="medalpaca",
    ask_max_new_tokens=5,
)


class Models:
    """A base and its tuned model; each knows which it is."""

    @contextmanager
    def side(self, tuned):
        text = SimpleNamespace(max_position_embeddings=4096)
        config = SimpleNamespace(get_text_config=lambda: text)
        embeddings = SimpleNamespace(weight=np.zeros((2000, 1)))
        yield SimpleNamespace(on=tuned, config=config, get_input_embeddings=lambda: embeddings)


class Tokenizer:
    """One token for each character."""

    bos_token_id, eos_token_id, bos_token, eos_token = 1, 2, "<s>", "</s>"
    chat_template = None

    def convert_ids_to_tokens(self, token):
        return chr(token)

    def __call__(self, texts, add_special_tokens=True, **_):
        ids = [[ord(letter) for letter in text] for text in np.atleast_1d(texts).tolist()]
        return {"input_ids": ids if isinstance(texts, list) else ids[0]}


@pytest.fixture
def play(tmp_path, monkeypatch):
    """The base prefers the first option, the tuned model the last."""

    def scores(model, requests):
        count = sum(len(request.options) for request in requests)
        first = -1.0 if model.on else 3.0
        return [[first] + [0.0] * (count - 2) + [2.0]]

    monkeypatch.setattr(plain, "loglikelihoods", scores)
    said = {True: "tuned <b>words</b>", False: "base words"}
    monkeypatch.setattr(writing, "answer", lambda model, *_: said[model.on])
    monkeypatch.setattr(playground, "usable", usable)
    return playground.Playground(tmp_path, P, Models(), Tokenizer())


def usable(prompt, protocol, tokenizer, limit, listed, rows):
    """Requests of the prompt's answers; none, with a reason, if an answer is empty."""
    if not all(answer.strip() for answer in prompt.answers):
        listed["skipped"].append({"reason": "an option is empty"})
        return []
    options = [] if protocol.reads else [[1]] * len(prompt.answers)
    return [playground.plain.Request([1], options)]


def test_options_stand_side_by_side_with_the_right_one_marked(play):
    html = play.ask("What is <i>it</i>?", options=["a", "b & c", "d"], right=1).data
    rows = [part.split("</tr>")[0] for part in html.split("<tr>")]
    assert len(rows) == 5 and "b &amp; c" in rows[3] and "✓ right" in rows[3]
    assert html.count("✓ right") == 1 and html.count("◀</td>") == 2, "a choice each"
    assert rows[2].count("◀</td>") == 1 and rows[4].count("◀</td>") == 1
    assert "&lt;i&gt;it" in html and "tuned &lt;b&gt;words" in html and "base words" in html


def test_a_model_beside_a_vision_tower_is_asked_as_any_other(tmp_path):
    """The context of its text is nested in its configuration."""
    small.base(tmp_path)
    base = multimodal.put(tmp_path)
    loaded = loading.load(base)
    models = SimpleNamespace(side=lambda tuned: nullcontext(loaded))
    words = loading.load_tokenizer(base)
    shown = playground.Playground(tmp_path, P, models, words).ask("What?", options=["a", "b"])
    assert "likelihoods</small>" in shown.data


def test_without_options_both_write(play, monkeypatch):
    asked = SimpleNamespace(ids=[1])
    monkeypatch.setattr(playground.examples, "question", lambda *_: asked)
    html = play.ask("What?").data
    assert "<table>" not in html and "base words" in html and "What?" in html


def test_a_question_with_a_token_that_the_model_does_not_know_is_one_sentence(play, monkeypatch):
    asked = SimpleNamespace(ids=[1, 2000])
    monkeypatch.setattr(playground.examples, "question", lambda *_: asked)
    with pytest.raises(StudyError, match=f"it spells out {chr(2000)}, for which the model has no"):
        play.ask("What?")


@pytest.mark.parametrize(
    ("options", "right", "protocol", "said"),
    [
        (["one"], None, None, "give two options or more"),
        (["a", "b"], 2, None, "count the right one from 0"),
        (["a", " "], 0, None, "an option is empty"),
        (["a", "b"], 0, "generate", "does not score options"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(play, options, right, protocol, said):
    with pytest.raises(StudyError, match=said):
        play.ask("What?", options=options, right=right, protocol=protocol)


def test_a_declared_protocol_that_scores_no_options_is_replaced(play, monkeypatch):
    monkeypatch.setattr(P, "eval_primary_protocol", "generate")
    assert "as-trained, 0-shot" in play.ask("What?", options=["a", "b"]).data


def test_a_wrong_answer_is_drawn_from_the_predictions(play):
    assert "run 04_eval first" in play.wrong().data, "a missing file is one sentence"
    items = synthetic.items("medqa_4", 6, world=False)
    (play.folder / "data/benchmarks").mkdir(parents=True)
    benchmarks.item.save(play.folder / "data/benchmarks", "medqa_4", items)
    path = play.folder / "predictions/tuned/medqa_4-sm70-2023-0.jsonl"
    path.parent.mkdir(parents=True)
    wrong = {items[2].id, items[4].id}
    lines = [json.dumps({"item_id": item.id, "correct": item.id not in wrong}) for item in items]
    path.write_text("\n".join(lines))
    drawn = [play.wrong(seed).data for seed in range(8)]
    shown = {item.id for item in items for html in drawn if item.question in html}
    assert shown == wrong and play.wrong(3).data == play.wrong(3).data
