"""Log-likelihoods equal those of lm-evaluation-harness, option by option."""

from dataclasses import replace

import pytest

from sm70lib.asking import prompts
from sm70lib.models import loading
from tests import small
from tests.asked import adding_bos, answered, run_of


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    small.base(folder)
    return loading.load(folder / "base/model"), loading.load_tokenizer(folder / "base/model")


@pytest.mark.parametrize("adds", [False, True], ids=["no bos", "bos"])
@pytest.mark.parametrize(
    ("protocol", "shots", "context"),
    [
        ("sm70-2023", 0, 4096),
        ("sm70-2023", 3, 4096),
        ("sm70-2023-letters", 0, 4096),
        ("harness", 0, 4096),
        ("harness", 3, 4096),
        ("meditron", 0, 4096),
        ("sm70-2023", 3, 60),
        ("harness", 3, 60),
    ],
)
def test_loglikelihoods_equal_those_of_lm_evaluation_harness(
    loaded, tmp_path, protocol, shots, context, adds
):
    """Item by item, option by option: the same split of prompt and answer, the same BOS, the same
    cut on the left.
    """
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    loaded = (loaded[0], adding_bos(loaded[1])) if adds else loaded
    run = run_of(12, protocol, shots)
    run = replace(run, protocol=replace(run.protocol, max_context=context))
    if run.protocol.name != "sm70-2023":
        run = replace(run, pool=run.items)
    pairs = [
        (prompt.text, answer)
        for prompt in prompts.Prompts(run, loaded[1])
        for answer in prompt.answers
    ]
    harness = HFLM(
        pretrained=loaded[0],
        tokenizer=loaded[1],
        batch_size=4,
        max_length=context,
        add_bos_token=False if run.protocol.bos == "never" else None,
    )
    asked = [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)]
    theirs = [value for value, _ in harness.loglikelihood(asked, disable_tqdm=True)]
    ours = answered(loaded, run, tmp_path / "p.jsonl")
    assert len(ours) == 48 and ours == pytest.approx(theirs, abs=1e-3)
