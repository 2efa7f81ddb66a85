"""What CONTRIBUTING.md says of adding a benchmark, protocol, source or training method.

Each test adds one to a copy of the library and runs it there: a benchmark from its files to a row
of a table, a training method in a whole rehearsal to the report.
"""

import filecmp
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sm70lib.study.params import ROOT
from tests import small

RIDDLES = '''
"""Riddles: questions with four options, in a layout of their own."""

from pathlib import Path

from sm70lib.benchmarks.benchmark import Benchmark
from sm70lib.benchmarks.fields import Found, objects


def riddles(path: Path) -> Found:
    """Riddles: a stem, its choices in a list, and the right one by its text."""
    for number, row in objects(path):
        options = dict(zip("ABCD", row.get("choices", ())))
        right = [label for label, text in options.items() if text == row.get("solution")]
        fields = {"id": f"{number:03}", "question": row.get("stem"), "options": options}
        yield number, row, fields | {"gold": right[0] if right else None}


def _row(question: dict) -> dict:
    choices = list(question["options"].values())
    return {"stem": question["question"], "choices": choices, "solution": question["answer"]}


ALL = Benchmark(riddles, "riddles", None, ("{}.jsonl",), pools=("train",), as_row=_row)
'''
ALOUD = '''
"""Questions that are read aloud, with the options as one sentence."""

from sm70lib.benchmarks import Item
from sm70lib.protocols.layouts import option_texts
from sm70lib.protocols.protocol import Protocol
from sm70lib.protocols.sm70 import draw_2023


def _sentence(item: Item) -> str:
    return f"{item.question} Is it {' or '.join(item.options)}? It is"


ALOUD = Protocol("aloud", 1, {"medqa_4": _sentence}, option_texts, draw=draw_2023)
'''
# Reads a benchmark's stand-in files, asks a random model, and prints rows of the table of results.
RUN = """
import json, sys
from pathlib import Path

from sm70lib import benchmarks, sources
from sm70lib.analysis import accuracies, frames
from sm70lib.asking.runs import runs
from sm70lib.evaluation import scoring
from sm70lib.evaluation.candidates import models
from sm70lib.standins import place
from sm70lib.statistics import stats
from sm70lib.steps import steps
from sm70lib.study import params
from tests import small

name, protocol = sys.argv[1:]
given = {
    "study": "added", "data_root": "files", "eval_shots": [0, 1], "eval_limit": 5,
    "eval_benchmarks": [name], "eval_primary_benchmarks": [name],
    "eval_protocols": [protocol], "eval_primary_protocol": protocol,
}
Path("files").mkdir()
p = params.load("params/tiny.yml", overrides=given)
place.data(p, Path("hub"), Path("files"))
folder = steps.outputs() / "added"
small.base(folder)
root = sources.root(p)
benchmarks.save(folder / "data/benchmarks", name, benchmarks.read(name, root))
benchmarks.save(folder / "data/benchmarks", f"{name}.pool", benchmarks.pool(name, root))
steps.write_text(folder / "data/contaminated_items.csv", "benchmark,item_id\\n")
asked = runs(p, folder / "data/benchmarks")
scoring.score_model(models(p, folder)[0], p, asked, folder)
table = accuracies.results(frames.load(steps.outputs(), ["added"]), stats.How(0.95, 200, 0))
print(table.to_json(orient="records"))
"""

# Reads the stand-in rows of sources, and prints their numbers.
READ = """
import sys
from pathlib import Path

from sm70lib import sources
from sm70lib.standins import place
from sm70lib.study import params

Path("files").mkdir()
given = {"study": "added", "data_root": "files", "data_sources": sys.argv[1:]}
p = params.load("params/tiny.yml", overrides=given)
place.data(p, Path("hub"), Path("files"))
print([sum(1 for _ in sources.read(name, sources.root(p))) for name in p.data_sources])
"""

# A method with a setting that no other has: DPO that takes a share of the pairs for wrong.
ROBUST = '''class Doubted(Preferences):
    """What a round of preferences has besides where some pairs are the wrong way round."""

    label_smoothing: Number = parameter("share of pairs that are wrong", ge=0, lt=0.5)


'''
ROBUST_KIND = """    "robust": Kind(
        Doubted,
        Words("each doubted round", "doubted preferences", "aligned with doubted preferences"),
        "pairs",
        ("beta", "label_smoothing"),
        reference=True,
    ),
"""
ROBUST_METHOD = '    "robust": Method("PairTrainer", "DPOConfig", _first_loss_is_ln_2),\n'
ROBUST_STUDY = """study: sm70-7b-robust
train_stages: [sft, robust]
robust_sources: [preference_pairs]
robust_rounds: {}
robust_steps: 30
robust_batch_size: 64
robust_lr: 1.0e-4
robust_scheduler: linear
robust_warmup: 0.0
robust_weight_decay: 0.0
robust_max_grad_norm: 1.0
robust_optimizer: adamw_torch
robust_beta: 0.1
robust_label_smoothing: 0.2
train_seeds: [0]
eval_benchmarks: [medqa_4]
eval_primary_benchmarks: [medqa_4]
eval_shots: [0]
eval_primary_shots: 0
eval_own: [tuned]
"""
# What notebooks take of it, what a step of it costs, and its rehearsal, 00 to the report
TRAIN = """
import json
from pathlib import Path
from types import SimpleNamespace

from sm70lib.presentation import names
from sm70lib.rehearsal import rehearsal
from sm70lib.study import params, provenance

files = ["params/sm70-7b.yml", "robust.yml"]
taken = {}
for step in ("01_data", "02_load_4bit", "03_qlora_finetune"):
    declared = provenance.declared(Path(f"notebooks/{step}.ipynb"))
    taken[step] = [name for name in declared if name.startswith("robust_")]
assert rehearsal.rehearse(files, {}) == 0

# Only now: transformers reads the address of the hub when it is imported.
from sm70lib.sizes import accelerators
from sm70lib.training import settings

p = params.load(*files)
last = settings.config(p, SimpleNamespace(kind="robust", seed=0), Path("stage"), False)
found = {"taken": taken, "tokens": accelerators.tokens(p, "robust") / p.data_max_length}
found["model"] = names.model("tuned-2-robust")
found |= {"class": type(last).__name__, "smoothing": last.label_smoothing, "beta": last.beta}
print(json.dumps(found))
"""


class Copy:
    """The library and what a small study of it needs, in a folder that a test may change."""

    def __init__(self, root: Path):
        self.root = root
        shutil.copytree(ROOT / "sm70lib", root / "sm70lib")  # with what is compiled
        for file in ("params/tiny.yml", str(Path(small.__file__).relative_to(ROOT))):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, root / file)

    def add(self, file: str, text: str, table: str, line: str) -> None:
        """Adds one file, and one line to a table."""
        (self.root / "sm70lib" / file).write_text(text.lstrip())
        with (self.root / "sm70lib" / table).open("a") as lines:
            lines.write(f"{line}\n")

    def touched(self) -> set[str]:
        """The files of the library that are not as they were."""
        library = self.root / "sm70lib"
        files = {path.relative_to(library) for path in library.rglob("*") if path.is_file()}
        kept = {path for path in files if (ROOT / "sm70lib" / path).is_file()}
        _, other, _ = filecmp.cmpfiles(library, ROOT / "sm70lib", map(str, kept), shallow=False)
        return {path.as_posix() for path in files - kept} | set(other)

    def python(self, code: str, *words: str) -> subprocess.CompletedProcess:
        """Runs code on this copy in a process of its own."""
        own = {"PYTHONPATH": str(self.root), "SM70_OUTPUTS": str(self.root / "outputs")}
        return subprocess.run(
            [sys.executable, "-B", "-c", code, *words],
            cwd=self.root,
            env=os.environ | own,
            capture_output=True,
            text=True,
            timeout=600,
        )

    def rows(self, benchmark: str, protocol: str) -> list[dict]:
        """The rows of the table of results."""
        done = self.python(RUN, benchmark, protocol)
        assert done.returncode == 0, done.stderr[-3000:]
        return [row for row in json.loads(done.stdout) if row["subset"] == "all"]

    def refusal(self, parameter: str, name: str) -> str:
        """What a study is told that gives a parameter this one name."""
        load = f"params.load('params/tiny.yml', overrides={{'{parameter}': ['{name}']}})"
        done = self.python(f"from sm70lib.study import params\n{load}")
        assert done.returncode == 1
        return done.stderr.splitlines()[-1]


@pytest.fixture
def copy(tmp_path) -> Copy:
    return Copy(tmp_path / "copy")


def test_a_benchmark_is_one_file_and_one_line(copy):
    copy.add(
        "benchmarks/riddles.py",
        RIDDLES,
        "benchmarks/benchmarks.csv",
        "riddles,riddles:ALL,medmcqa,riddles/,test,the library",
    )
    rows = copy.rows("riddles", "harness")
    assert [(row["benchmark"], row["protocol"], row["shots"], row["n"]) for row in rows] == [
        ("riddles", "harness", 0, 5),
        ("riddles", "harness", 1, 5),
    ]
    lines = (copy.root / "outputs/added/predictions/base/riddles-harness-1.jsonl").read_text()
    ids = [json.loads(line)["item_id"] for line in lines.splitlines()]
    assert len(ids) == 5 and "riddles/000" in ids
    assert copy.touched() == {"benchmarks/riddles.py", "benchmarks/benchmarks.csv"}
    said = copy.refusal("eval_benchmarks", "ridles")
    assert "eval_benchmarks is 'ridles'" in said and said.endswith("; did you mean riddles?")


def test_a_protocol_is_one_file_and_one_line(copy):
    copy.add("protocols/aloud.py", ALOUD, "protocols/protocols.csv", "aloud,aloud:ALOUD")
    rows = copy.rows("medqa_4", "aloud")
    assert [(row["benchmark"], row["protocol"], row["shots"], row["n"]) for row in rows] == [
        ("medqa_4", "aloud", 0, 5),
        ("medqa_4", "aloud", 1, 5),
    ]
    assert copy.touched() == {"protocols/aloud.py", "protocols/protocols.csv"}
    said = copy.refusal("eval_protocols", "alloud")
    assert "eval_protocols is 'alloud'" in said and said.endswith("; did you mean aloud?")


def test_a_training_method_is_a_line_in_two_files(copy):
    """Its trainer is there already; a trainer of its own would be the third file."""
    for file, at, text in (
        ("parameters/stages.py", "class Kind(", ROBUST),
        ("parameters/stages.py", "}\n# Folders that 01_data writes.", ROBUST_KIND),
        ("training/methods.py", '    "dpo": Method(', ROBUST_METHOD),
    ):
        path = copy.root / "sm70lib" / file
        before, there, after = path.read_text().partition(at)
        assert there, f"{file} has no {at!r}"
        path.write_text(before + text + there + after)
    for folder in ("notebooks", "params"):
        shutil.copytree(ROOT / folder, copy.root / folder, dirs_exist_ok=True)
    (copy.root / "robust.yml").write_text(ROBUST_STUDY)
    done = copy.python(TRAIN)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    *_, came, said = done.stdout.splitlines()
    assert came.startswith("rehearsal-sm70-7b-robust: came through")
    report = copy.root / "outputs/rehearsal-sm70-7b-robust/report/index.html"
    assert "was tuned and aligned with doubted preferences by QLoRA" in report.read_text()
    found = json.loads(said)
    assert (found["class"], found["smoothing"], found["beta"]) == ("DPOConfig", 0.2, 0.1)
    assert found["tokens"] == pytest.approx(30 * 64 * 2 * 4 / 3), "two answers, and a reference"
    assert found["model"] == "tuned, stage 2 (doubted preferences)"
    taken = found["taken"]
    assert taken["01_data"] == ["robust_sources"]
    assert taken["02_load_4bit"] == ["robust_steps", "robust_batch_size", "robust_optimizer"]
    assert {"robust_lr", "robust_label_smoothing", "robust_rounds"} <= {*taken["03_qlora_finetune"]}
    assert copy.touched() == {"parameters/stages.py", "training/methods.py"}
    assert copy.refusal("train_stages", "robst").endswith("; did you mean robust?")


def test_a_source_is_one_line(copy):
    """One of each shape."""
    with (copy.root / "sm70lib/sources/sources.csv").open("a") as lines:
        lines.write("questions,asked,free,,,someone/questions,questions,row\n")
        lines.write("choices,preferred,free,,,,choices,pair,*/pairs_*.jsonl,the library\n")
        lines.write("books,read,free,,,,books,text,**/*.json\n")
    done = copy.python(READ, "questions", "choices", "books")
    assert done.stdout == "[24, 24, 24]\n", done.stderr[-3000:]
    assert copy.touched() == {"sources/sources.csv"}
    assert copy.refusal("data_sources", "book").endswith("; did you mean books?")


@pytest.mark.parametrize(
    "line, said",
    [
        ("new,riddles:ALL,,,test,", "line new: object is 'riddles:ALL', but No module named"),
        ("new,medqa:SIX,,,test,", "line new: object is 'medqa:SIX', but module"),
        (
            "new,medqa:FOUR,,,exam,",
            "line new: use is 'exam'; choose from test, dev, safety, pairs, documents, rubric.",
        ),
        ("new,medqa:FOUR,usmle,,test,", "line new: asked_as is 'usmle', which has no line"),
        ("medqa_4,medqa:FOUR,,,test,", "two lines are named medqa_4; rename or remove one."),
    ],
)
def test_a_wrong_line_is_named(copy, line, said):
    with (copy.root / "sm70lib/benchmarks/benchmarks.csv").open("a") as lines:
        lines.write(f"{line}\n")
    done = copy.python("from sm70lib import benchmarks")
    assert f"StudyError: benchmarks/benchmarks.csv, {said}" in done.stderr.replace(": two", ", two")


def test_a_protocol_has_the_name_of_its_line(copy):
    with (copy.root / "sm70lib/protocols/protocols.csv").open("a") as lines:
        lines.write("letters,sm70:LETTERS\n")
    done = copy.python("from sm70lib import protocols")
    assert "line letters: its protocol is named 'sm70-2023-letters'" in done.stderr
