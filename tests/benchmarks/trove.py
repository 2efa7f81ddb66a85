"""datatrove's own pipeline on files of running text, in an environment that has datatrove.

tests/benchmarks/text.py starts it with that environment's Python. It imports nothing else of this
repository. One task at a time, in this process; what is printed last is JSON with the tokens
written, the texts kept, and the seconds without imports.
"""

import json
import os
import sys
import time
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.tokens import DocumentTokenizer
from datatrove.utils.word_tokenizers import WordTokenizer

ID_BYTES = 2


class AtWhiteSpace(WordTokenizer):
    """Words as `str.split` finds them; datatrove's own way, spaCy, takes several times as long."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        raise NotImplementedError

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        raise NotImplementedError


def run(folder: Path, name: str, tasks: int, *steps) -> None:
    """Runs some steps of a pipeline, task after task."""
    log = str(folder / "log" / name)
    LocalPipelineExecutor(list(steps), tasks=tasks, workers=1, logging_dir=log).run()


def near_duplicates(folder: Path, texts: str, files: int) -> MinhashDedupFilter:
    """Finds near-duplicates with datatrove's defaults; the step that leaves them out.

    Those are five words in a row and 14 bands of 8 numbers, as ours.
    """
    config = MinhashConfig()
    signed, buckets, dropped = (str(folder / name) for name in ("signed", "buckets", "dropped"))
    signature = MinhashDedupSignature(signed, config, AtWhiteSpace())
    run(folder, "sign", files, JsonlReader(texts, text_key="contents"), signature)
    run(folder, "match", config.num_buckets, MinhashDedupBuckets(signed, buckets, config=config))
    run(folder, "cluster", 1, MinhashDedupCluster(buckets, dropped, config=config))
    return MinhashDedupFilter(dropped)


def main(texts: str, tokenizer: str, folder: Path, minhash: bool) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    files = len(list(Path(texts).iterdir()))
    started = time.perf_counter()
    kept = [near_duplicates(folder, texts, files)] if minhash else []
    written = str(folder / "tokens")
    encoder = DocumentTokenizer(written, tokenizer, eos_token="</s>", shuffle_documents=False)
    run(folder, "tokens", files, JsonlReader(texts, text_key="contents"), *kept, encoder)
    seconds = time.perf_counter() - started
    sizes = {end: _bytes(folder / "tokens", end) for end in ("ds", "index")}
    found = {"tokens": sizes["ds"] // ID_BYTES, "texts": sizes["index"] // 8, "seconds": seconds}
    print(json.dumps(found))


def _bytes(folder: Path, end: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(f"*.{end}"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:] == ["minhash"])
