"""How Fully Open Meditron was asked (arXiv 2605.16215; github:EPFLiGHT/FullyOpenMeditron).

Its meditron_eval.sh runs a fork of lm-evaluation-harness on vLLM, in the chat template, at
temperature 0, with at most 4,096 tokens of prompt and reply together. Tasks with names such as
medxpertqa_g let the model write.

What cannot be repeated: the tasks themselves are in the fork, which was not found. So the words of
the questions are our own (those of `generate`), and so is the rule that reads the replies.
"""

from dataclasses import replace

from sm70lib.protocols.layouts import MEDXPERTQA, MMLU_PRO
from sm70lib.protocols.ours import GENERATE

WRITTEN = 2048  # tokens of a reply, so that half of the context is left for the question

MEDITRON_FO = replace(
    GENERATE,
    name="meditron-fo",
    version=1,
    layouts={**GENERATE.layouts, MMLU_PRO: GENERATE.layouts[MEDXPERTQA]},
    max_new_tokens=WRITTEN,
)
