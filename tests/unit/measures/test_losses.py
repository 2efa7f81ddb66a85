"""The loss on documents is the one that transformers computes, and its interval is t's."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats as laws

from sm70lib import benchmarks, protocols
from sm70lib.analysis import frames
from sm70lib.asking.runs import Run
from sm70lib.benchmarks import Item
from sm70lib.evaluation import first_look, one_run
from sm70lib.measures import losses
from sm70lib.models import loading
from sm70lib.models.backend import Local
from sm70lib.study.params import StudyError
from tests import small

TEXTS = ["The river of Bremford is the Tal.", "People in Bremford eat tal soup.", "Tal. " * 30]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study that has scored three documents: one in two pieces, and two with the same text."""
    folder = tmp_path_factory.mktemp("outputs") / "toy"
    small.base(folder)
    pieces = [("a", TEXTS[0]), ("a", TEXTS[1]), ("b", TEXTS[2]), ("c", TEXTS[2])]
    items = [
        Item(f"old_text/{n}", cluster, "old_text", text, "", (text,), 0)
        for n, (cluster, text) in enumerate(pieces)
    ]
    benchmarks.save(folder / "data/benchmarks", "old_text", items)
    run = Run("old_text", protocols.named("loss"), 0, items, [])
    path = folder / f"predictions/base/{run.name}.jsonl"
    path.parent.mkdir(parents=True)
    model = loading.load(folder / "base/model")
    one_run.evaluate(
        Local(model, loading.load_tokenizer(folder / "base/model")), run, path, model_digest="m"
    )
    return folder


def test_a_documents_loss_is_that_of_transformers(study):
    model = loading.load(study / "base/model")
    tokenizer = loading.load_tokenizer(study / "base/model")
    found = losses.by_document(study).set_index("document")
    for document, texts in {"a": TEXTS[:2], "b": TEXTS[2:]}.items():
        nats = tokens = 0
        for text in texts:
            ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(text).input_ids]])
            with torch.no_grad():
                nats += model(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
            tokens += ids.shape[1] - 1
        assert found.loc[document, "tokens"] == tokens
        assert found.loc[document, "loss"] == pytest.approx(nats / tokens, rel=1e-4)


def test_documents_have_no_accuracy(study):
    assert first_look.accuracies(study / "predictions").empty
    with pytest.raises(StudyError, match="predictions is empty"):
        frames.frame(study)
    line = json.loads(next((study / "predictions/base").glob("*.jsonl")).open().readline())
    assert len(line["tokens"]) == 1


def test_the_table_gives_an_interval_from_twenty_documents_on(monkeypatch, tmp_path):
    made = pd.DataFrame(
        {"model": "m", "source": "s", "document": range(20), "nats": 2.0, "tokens": 1}
    ).assign(loss=np.arange(20.0))
    monkeypatch.setattr(losses, "by_document", lambda folder: made[: int(folder.name)])
    table = losses.table(tmp_path, ["20", "19"]).set_index("study")
    low, high = laws.t.interval(0.95, 19, 9.5, np.arange(20.0).std(ddof=1) / np.sqrt(20))
    assert table.loc["20", ["low", "high"]].tolist() == pytest.approx([low, high], abs=1e-4)
    assert table.loc["19", ["low", "high"]].isna().all() and table.loc["19", "documents"] == 19
