"""Which families of models are scored packed, plainly or not at all.

`python -m tests.results.families` writes outputs/reference/families.md from the small random models
of tests/parity/test_families.py, each measured here: how its scores differ from transformers'
own eager attention, and the gradients of one training step in NF4, packed and not. It takes two
minutes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers

from sm70lib.inspection.architecture import NOT_IN_FOUR_BITS
from sm70lib.models import backend, loading, packed, proof
from sm70lib.models.proof import PACKED
from sm70lib.steps.steps import write_text
from sm70lib.study.params import ROOT
from tests.parity import test_families as families

TEXT = (
    "A random model of each family, with four layers, on prompts longer than its window. "
    "`difference_nats` is the largest difference of an option's log-likelihood between our scoring "
    "and transformers' eager attention, over {n} options with and without a shared prefix. "
    "`packed rows` says whether a stage may pack its rows. `NF4 step` is the difference between "
    "the gradients of a training step in four bits on packed and on single rows, relative to their "
    "norm; without the boundaries of the rows it would be {wrong:.2f} or more. Made with "
    "transformers {version} in float32 on a CPU: `python -m tests.results.families`.\n"
)


def measured(family: str) -> dict[str, object]:
    """One row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        place = families.saved(family, folder)
        local = backend.Local(loading.load(place), tokenizer=None)
        asked, prefix = families.requests()
        differences = []
        for common in ([], prefix):
            scores = np.concatenate(local.loglikelihoods(asked, common))
            differences.append(np.abs(scores - families.eager(place, asked, common)).max())
        step, wrong = _step(family, folder)
        rows = proof.prove_training(loading.load(place), longest=1024)
        return {
            "family": family,
            "scored": local.way,
            "difference_nats": f"{max(differences):.1e}",
            "packed rows": "yes" if rows.way == PACKED else "refused",
            "NF4 step": step,
            "wrong": wrong,
        }


def _step(family: str, folder: str) -> tuple[str, float | None]:
    """The relative difference of the gradients, or why there is none; and without boundaries."""
    if family in NOT_IN_FOUR_BITS:
        return "refused", None
    model = families.in_nf4(families.saved(family, folder))
    rows = families.rows()
    singly = [model(input_ids=row[None], use_cache=False).logits[0] for row in rows]
    _, gradients = families.loss_and_gradients(model, singly)
    if family in families.GO_PLAINLY:
        return "single rows", None
    packed.enter(model)
    _, together = families.loss_and_gradients(model, families.together(model))
    joined = model(input_ids=torch.cat(rows)[None], use_cache=False).logits[0]
    _, wrong = families.loss_and_gradients(model, list(joined.split([len(row) for row in rows])))
    norm = gradients.norm()
    return f"{(gradients - together).norm() / norm:.1e}", float((gradients - wrong).norm() / norm)


def main() -> None:
    """Measures every family and writes the table."""
    torch.set_num_threads(1)
    table = pd.DataFrame([measured(family) for family in families.FAMILIES])
    asked, _ = families.requests()
    options = 2 * sum(len(request.options) for request in asked)
    wrong = table.pop("wrong").min()
    text = TEXT.format(n=options, wrong=wrong, version=transformers.__version__)
    path = ROOT / "outputs/reference/families.md"
    write_text(Path(path), f"{text}\n{table.to_markdown(index=False)}\n")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
