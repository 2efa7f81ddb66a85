"""Cards of adapters, models and data, read back with the hub's own classes, offline."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
from huggingface_hub import DatasetCard, ModelCard

from sm70lib.cards import data, model
from sm70lib.reporting.made import Made
from sm70lib.study.files import digest
from tests.unit.reporting.test_first_screen import TINY, study

__all__ = ["study"]
SHA = "5" * 64


@pytest.fixture
def trained(study):
    """A study on a public base with an adapter, an earlier stage and a merged model; its folder."""
    folder = study.folder
    (folder / "base/base.json").write_text('{"model": "meta-llama/Llama-2-7b-hf"}')
    for place in ("adapter", "stages/1-cpt/adapter", "stages/2-sft/adapter"):
        (folder / place).mkdir(parents=True)
        about = {"base_model_name_or_path": "/home/me/llama", "r": 8}
        (folder / place / "adapter_config.json").write_text(json.dumps(about))
        (folder / place / "README.md").write_text("base_model: /home/me/llama")
        (folder / place / "adapter_model.safetensors").write_text("weights")
        template = {"name": "medalpaca", "sha256": SHA}
        (folder / place / "template.json").write_text(json.dumps(template))
    (folder / "merged/original").mkdir(parents=True)
    (folder / "merged/original/config.json").write_text("{}")
    rows = pd.read_csv(folder / "tables/results.csv").assign(
        low_pct=74.6, high_pct=84.6, n=300, best_constant_pct=35
    )
    unread = rows.tail(1).assign(benchmark="pubmedqa", acc_pct=float("nan"))
    pd.concat([rows, unread]).to_csv(folder / "tables/results.csv", index=False)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["steps"]["01_data"] = {"outputs": {"data/train": {"sha256": SHA}}}
    manifest["parameters"]["data_root"] = "hub"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_every_trained_folder_has_a_card_that_the_hub_reads(trained):
    cards = model.write(trained)
    assert [path.parent.relative_to(trained).as_posix() for path in cards] == [
        "adapter",
        "stages/1-cpt/adapter",
        "stages/2-sft/adapter",
        "merged/original",
    ]
    for path in cards:
        read = ModelCard.load(path)
        assert read.data.base_model == "meta-llama/Llama-2-7b-hf" and read.data.license == "other"
        assert read.data.library_name == ("transformers" if "merged" in str(path) else "peft")
        assert "medalpaca/medical_meadow_medical_flashcards" in read.data.datasets
        assert "Not a medical device" in read.text.replace("not", "Not")
        assert "/home" not in read.content and str(trained) not in read.content


def test_results_are_a_model_index_with_protocol_interval_and_n(trained):
    cards = model.write(trained)
    (found,) = ModelCard.load(cards[0]).data.eval_results
    assert (found.dataset_name, found.metric_value) == ("MedQA", 80.3)
    assert found.metric_name == "accuracy (%), sm70-2023, 0-shot"
    assert found.metric_args == {"low": 74.6, "high": 84.6, "n": 300}
    earlier = ModelCard.load(cards[1])
    assert earlier.data.eval_results is None and "Not scored yet." in earlier.text
    last = ModelCard.load(cards[2])
    assert last.data.eval_results[0].metric_value == 80.3, "the last stage is the tuned model"
    assert SHA in last.text and "### Response:" in last.text, "digests, and how to ask"


def test_a_base_that_was_trained_here_has_no_public_name(study):
    assert model.public_base(study) is None
    (study.folder / "base/base.json").write_text('{"model": "/home/me/llama"}')
    assert model.public_base(Made(study.folder)) is None


def test_a_card_changes_no_digest(trained):
    places = [trained / "adapter", trained / "merged/original"]
    before = [digest(place) for place in places]
    model.write(trained)
    assert [digest(place) for place in places] == before


def test_the_data_card_is_a_dataset_card():
    p = SimpleNamespace(**TINY)
    funnel = pd.DataFrame({"rows": [9000], "kept": [8123]}, pd.Index(["wikidoc"], name="source"))
    leaks = pd.DataFrame({"source": ["a"], "benchmark": ["usmle"], "any": [12]})
    card = DatasetCard(data.card(p, funnel, leaks, SHA, None))
    assert card.data.size_categories == "1K<n<10K" and card.data.license == "other"
    assert SHA in card.text and "8123" in card.text and "usmle" in card.text
    assert all(name in card.text for name in p.data_sources)
    assert [data.size(rows) for rows in (999, 1000, 10**8)] == ["n<1K", "1K<n<10K", "n>10M"]
