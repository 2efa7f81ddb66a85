"""The judges of claims, by name: each turns one entry of claims.yml into rows of the scorecard.

The two that need hardly any computation stand here.
"""

from collections.abc import Callable

from sm70lib.analysis.roles import TUNED
from sm70lib.claims.arms import arms, documents
from sm70lib.claims.case import OURS, UNTESTED, Row, Study, bare
from sm70lib.claims.change import across, all_of, gains
from sm70lib.claims.entries import Claim
from sm70lib.claims.own import floor, four_bits, letters, no_worse, primary
from sm70lib.claims.printed import against, wider
from sm70lib.statistics.verdicts import SUPPORTED
from sm70lib.steps.keys import mark


def stated(claim: Claim, study: Study) -> list[Row]:
    """What the catalogue says, whatever the study.

    Arguments: verdict, why.
    """
    return [bare(claim, claim.arguments["verdict"], claim.arguments["why"])]


def offline(claim: Claim, study: Study) -> list[Row]:
    """Whether the answers came from weights on this machine while the hub was switched off."""
    count = int((study.answers.rows["model"] == TUNED).sum())
    where = f"{count:,} answers of {TUNED} were computed on the study's own machine"
    if mark(study.folder, "04_eval").get("hub_offline"):
        return [bare(claim, SUPPORTED, f"{where}, with the hub switched off", OURS)]
    needs = "it needs 04_eval with HF_HUB_OFFLINE=1"
    return [bare(claim, UNTESTED, f"{where}, which may have reached the hub; {needs}")]


JUDGES: dict[str, Callable[[Claim, Study], list[Row]]] = {
    judge.__name__: judge
    for judge in (
        across,
        against,
        all_of,
        arms,
        documents,
        floor,
        four_bits,
        gains,
        letters,
        no_worse,
        offline,
        primary,
        stated,
        wider,
    )
}
