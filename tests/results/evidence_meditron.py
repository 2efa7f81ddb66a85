"""Does continued pretraining teach what it reads, and at what cost? tiny-meditron in eight worlds.

In each world four arms start from one base: guidelines with a tenth of replay, guidelines alone,
guidelines with a hundredth of replay, and guidelines whose facts are permuted. A single run hangs
on the last bits of its arithmetic, so the claims are means over worlds with t intervals.

Writes outputs/reference/evidence/meditron.csv (a row for each world and arm) and meditron.md (the
claims). Several worlds run at once on one thread each, and it goes on where it stopped.
`--only-table` reads what is there.
"""

from __future__ import annotations

import pandas as pd

from sm70lib.analysis import frames
from sm70lib.analysis.roles import TUNED
from sm70lib.measures import losses
from sm70lib.steps.steps import outputs
from sm70lib.study.files import write_text
from tests.results import worlds
from tests.results.worlds import FOLDER, drive, markdown, run

STUDY = "params/tiny-meditron.yml"
ARMS = {
    "replay": [STUDY],
    "alone": [STUDY, "params/overlays/tiny-meditron-alone.yml"],
    "paper": [STUDY, "params/overlays/tiny-meditron-paper.yml"],
    "permuted": [STUDY, "params/overlays/tiny-meditron-permuted.yml"],
}
FIRST = "replay"  # it makes the base that the others take over, and scores it
CLAIMS = (  # what is claimed, its column, the two arms, and the bound that must stand on one side
    ("new facts, replay minus permuted (points)", "facts_pct", "replay", "permuted", "over", 10),
    ("loss on old text, replay minus base (nats)", "old_nats", "replay", "base", "under", 0.05),
    ("loss on old text, alone minus replay (nats)", "old_nats", "alone", "replay", "over", 0),
)
BESIDE = (  # what is shown, its column and the two arms
    ("loss on old text, paper minus replay (nats)", "old_nats", "paper", "replay"),
    ("new facts, replay minus alone (points)", "facts_pct", "replay", "alone"),
    ("new facts, permuted minus base (points)", "facts_pct", "permuted", "base"),
    ("loss on unseen guidelines, replay minus permuted (nats)", "new_nats", "replay", "permuted"),
)


def study(seed: int, arm: str) -> str:
    """The name of the study of one arm in one world."""
    return f"meditron-{seed}-{arm}"


def world(seed: int) -> None:
    """All arms of one world; the first one makes the base."""
    for arm, files in ARMS.items():
        lender = [] if arm == FIRST else ["--from", study(seed, FIRST)]
        run(files, study(seed, arm), seed, *lender)


def measured(seed: int) -> pd.DataFrame:
    """The rows of one world: new facts completed (percent), loss on old and new text (nats)."""
    rows = []
    for arm in ARMS:
        folder = outputs() / study(seed, arm)
        answers, lost = frames.frame(folder), losses.by_document(folder)
        models = {TUNED: arm, frames.before(answers): "base"} if arm == FIRST else {TUNED: arm}
        for model, name in models.items():
            facts = answers.loc[answers["model"] == model, "correct"]
            mine = lost[lost["model"] == model].groupby("source")["loss"].mean()
            row = {"world_seed": seed, "arm": name, "facts": len(facts)}
            row |= {"facts_pct": 100 * facts.mean()}
            rows.append(row | {"old_nats": mine["old_text"], "new_nats": mine["new_text"]})
    return pd.DataFrame(rows)


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """Differences of two arms over worlds, with t intervals, and whether each claim holds."""
    return worlds.claims(runs, [*CLAIMS, *BESIDE])


def write(runs: pd.DataFrame) -> str:
    """Writes meditron.csv and meditron.md; returns the text of the second."""
    made = claims(runs)
    means = runs.groupby("arm", sort=False)[["facts_pct", "old_nats", "new_nats"]].mean().round(3)
    text = (
        f"{runs['world_seed'].nunique()} worlds, one training of each arm on a base of its world. "
        "Differences are means over worlds with 95 % t intervals; a claim holds where the interval "
        "stands beyond what is asked. Rows without `asked` are exploratory. Invented worlds: this "
        f"shows the method, not medicine.\n\n{markdown(made)}\n\n"
        f"Means over worlds.\n\n{means.to_markdown()}\n"
    )
    write_text(FOLDER / "meditron.csv", runs.round(4).to_csv(index=False))
    write_text(FOLDER / "meditron.md", text)
    return text


def main() -> None:
    """Runs what is missing, then writes the tables of the worlds that are there."""
    drive(__doc__, world, "meditron-{}-permuted", measured, write)


if __name__ == "__main__":
    main()
