"""What tests share: the real files beside the repository, and a toy study of small notebooks."""

import gc
import os
import shutil
from pathlib import Path

import pytest

from sm70lib.study import provenance
from sm70lib.study.params import ROOT
from tests.toy import Made, Toy

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", MPLBACKEND="agg")
# Two tests run at a time, and a second thread only slows models this small down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# bitsandbytes would have what two steps of its optimisers do compiled.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")


# What a study writes is synced to disk, which a test would wait for. Memory is quicker, where a
# machine offers it as a folder with room for what two workers write.
IN_MEMORY = Path("/dev/shm")
if IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > 8e9:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(IN_MEMORY))


LONGEST_FIRST = ("chain", "faults", "parity", "benchmarks", "results", "unit")
TIERS = sorted(LONGEST_FIRST)


def tier_of(item: pytest.Item) -> str:
    """The folder of a test."""
    tier = item.path.relative_to(Path(__file__).parent).parts[0]
    if tier not in TIERS:
        raise pytest.UsageError(
            f"tests/{tier} stands in no tier; move it to one of: tests/{', tests/'.join(TIERS)}"
        )
    return tier


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives every test the marker of its folder, and puts tests in the order in which they run.

    What takes minutes comes first, so that both workers end at the same time. A file's tests run in
    one worker and make what they share once. In `chain` and `faults` a test is long enough to go
    alone; files whose tests share a study there say so by a group of their own.
    """
    for item in items:
        tier = tier_of(item)
        item.add_marker(tier)
        if tier not in ("chain", "faults"):
            item.add_marker(pytest.mark.xdist_group(f"{tier}-{item.path.stem}"))
    items.sort(key=lambda item: LONGEST_FIRST.index(tier_of(item)))


def pytest_collection_finish() -> None:
    """Takes the modules of all tests out of the garbage collector's sight: they are never garbage,
    and looking through them takes up to a second each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A toy study in a folder of its own."""
    made = Toy(tmp_path)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def made(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A toy study with every step finished."""
    # git is asked at the end of every step, and takes longer than the step
    monkeypatch.setattr(provenance, "_commit", lambda: None)
    made = Made(toy)
    assert len(made.all()) == 7
    return made


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real source and benchmark files, in ../shared/data beside the repository."""
    folder = ROOT.parent / "shared/data"
    if not folder.is_dir():
        pytest.skip(f"no real files: {folder} is not there")
    return folder


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-level tokenizer that adds a BOS unless it is told not to, like Llama's."""
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    from sm70lib.corpus import templates

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    question = "Héllo wörld, what is the drug of choice for velorum? "
    text = templates.render("medalpaca", "Answer truthfully", question * 8)
    made.train_from_iterator([text], trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")
