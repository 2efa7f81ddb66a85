"""A model behind a real vLLM server against the same model on this machine, item by item.

`make served DATA=folder` installs vLLM for CPUs in an environment of its own (.vllm), serves
SmolLM2-135M-Instruct and compares. With --url it compares with a server that runs already.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pandas as pd

from sm70lib import benchmarks, protocols
from sm70lib.asking.runs import Run
from sm70lib.evaluation import one_run
from sm70lib.models import loading
from sm70lib.models.backend import Backend, Local
from sm70lib.serving.served import Served
from sm70lib.study.others import Server
from sm70lib.study.params import ROOT, StudyError

MODEL = ROOT / "outputs/models/HuggingFaceTB/SmolLM2-135M-Instruct"
PROTOCOLS = ("sm70-2023-letters", "harness", "med42")  # letters, option text, chat template
PORT = 8765
PATIENCE = 300  # seconds until the server must answer
TOLERANCE = 1e-3  # nats


@contextmanager
def vllm(python: Path, model: Path) -> Iterator[str]:
    """Runs vLLM's server, and yields its address.

    Args:
        python: the interpreter that has vLLM.
        model: the folder of the model.

    Raises:
        SystemExit: the server stops, or does not answer in PATIENCE seconds.
    """
    module = "vllm.entrypoints.openai.api_server"
    # Values depend on the order of requests unless the prefix cache is off (vLLM issue 42019).
    options = ["--dtype", "float32", "--enforce-eager", "--no-enable-prefix-caching"]
    context = ["--max-model-len", "4096", "--port", str(PORT), "--served-model-name", model.name]
    command = [python, "-m", module, "--model", model, *options, *context]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "PYTHONPATH": ""}
    url = f"http://127.0.0.1:{PORT}"
    with tempfile.NamedTemporaryFile("w+") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _wait(server, f"{url}/health", Path(log.name))
            yield f"{url}/v1"
        finally:
            server.terminate()
            server.wait()


def _wait(server: subprocess.Popen, url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urlopen(url).close()
            return
        except (URLError, OSError):
            time.sleep(1)
    sys.exit(f"vLLM does not answer:\n{log.read_text()[-2000:]}")


def compare(ours: Backend, theirs: Backend, runs: list[Run], folder: Path) -> pd.DataFrame:
    """Asks both the same, and compares the lines.

    Args:
        ours: the model on this machine.
        theirs: the model behind the server.
        runs: what is asked.
        folder: where the predictions go.

    Returns:
        One row per run: items, options, the largest difference (nats), choices that differ, and
        items a second of both.
    """
    rows = []
    for run in runs:
        lines, seconds = {}, {}
        for name, backend in (("local", ours), ("served", theirs)):
            path = folder / f"{name}-{run.name}.jsonl"
            began = time.monotonic()
            one_run.evaluate(
                backend, run, path, model_digest=name, batch_tokens=16 * 2048, chat=False
            )
            seconds[name] = time.monotonic() - began
            read = [json.loads(line) for line in path.read_text().splitlines()]
            lines[name] = {line["item_id"]: line for line in read}
        pairs = [(line, lines["served"][item]) for item, line in lines["local"].items()]
        rows.append(
            {
                "run": run.name,
                "items": len(pairs),
                "options": sum(len(line["loglikelihoods"]) for line, _ in pairs),
                "largest_difference_nats": max(
                    np.abs(np.subtract(a["loglikelihoods"], b["loglikelihoods"])).max()
                    for a, b in pairs
                ),
                "flips": sum(a["choice"] != b["choice"] for a, b in pairs),
                "local_items_per_s": len(pairs) / seconds["local"],
                "served_items_per_s": len(pairs) / seconds["served"],
            }
        )
        print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
    return pd.DataFrame(rows)


def main() -> int:
    """The command; returns 1 if a choice or a score differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of real files")
    parser.add_argument("--limit", type=int, default=200, help="items")
    parser.add_argument("--model", type=Path, default=MODEL, help="folder of the model")
    parser.add_argument("--url", help="a server that runs already, e.g. http://node7:8000/v1")
    parser.add_argument("--python", type=Path, default=ROOT / ".vllm/bin/python")
    given = parser.parse_args()
    if not given.model.is_dir():
        sys.exit(f"no model in {given.model}: run make smollm2 first")
    items = benchmarks.read("medqa_4", given.data, None, [])[: given.limit]
    runs = [Run("medqa_4", protocols.named(name), 0, items, []) for name in PROTOCOLS]
    tokenizer = loading.load_tokenizer(given.model)
    ours = Local(loading.load(given.model).float(), tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        if given.url:
            found = _with(given.url, given.model, ours, runs, Path(folder))
        else:
            with vllm(given.python, given.model) as url:
                found = _with(url, given.model, ours, runs, Path(folder))
    same = not found["flips"].any() and (found["largest_difference_nats"] < TOLERANCE).all()
    print("same" if same else "they differ")
    return int(not same)


def _with(url: str, model: Path, ours: Local, runs: list[Run], folder: Path) -> pd.DataFrame:
    theirs = Served(model.name, Server(url, model.name), ours.tokenizer)
    try:
        theirs.require_scores(list(PROTOCOLS))
        print(theirs.way, flush=True)
        return compare(ours, theirs, runs, folder)
    except StudyError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    sys.exit(main())
