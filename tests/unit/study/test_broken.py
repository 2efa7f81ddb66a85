"""Broken study files: each loads or is refused in one sentence, within a second."""

import random
import string
import time

import pytest
import yaml

from sm70lib.study import params
from sm70lib.study.params import ROOT, StudyError

TEXT = (ROOT / "params/tiny.yml").read_text()
LINES = [line for line in TEXT.splitlines() if line and not line.startswith("#")]
VALUES = [  # what a person, a program or a stranger may write behind a name
    *("016", "1:30", "0x1F", "0b11", "1_000", "1e5", "1e400", "-1", "-.inf", ".nan", "9" * 30),
    *("null", "~", "yes", "off", "''", '"', "'", "[", "]", "{", "}", "[[[[]]]]", "{a: {b: c}}"),
    *("&a [*a]", "*nothing", "!!python/name:os.system", "!!binary aGVsbG8=", "!!set {a, b}"),
    *("!!int ''", "!!int x", "!!float ''", "!!bool maybe", "!!timestamp x", "!!omap a", "!!x y"),
    *("2024-01-01", "2024-02-31", "|", ">", "? a", "- a", "@a", "`a`", "%TAG ! x", "\t", "\x1b[2J"),
    *("../x", "/etc/passwd", "hub", "models", "reference", "CON", "a" * 5000, "ü" * 300),
    *("(a+)+b", "(\\w+\\.?)+x", "[unclosed", "sh -c id", "python -c 1", "torchrun --no-python sh"),
    "{" + ", ".join(f"k{number}: {number}" for number in range(900)) + "}",
    "[" + ", ".join(str(number) for number in range(900)) + "]",
    "[" * 400,
]


def refusal(text: str | bytes, file) -> str | None:
    """The sentence with which a text is refused; None if it loads. Nothing else may happen."""
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    begun = time.process_time()
    try:
        params.load(file)
        said = None
    except StudyError as error:
        said = str(error)
    assert time.process_time() - begun < 1
    return said


def broken(draw: random.Random) -> str:
    """The tiny study with one to three faults."""
    lines = list(LINES)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(lines))
        name = lines[place].partition(":")[0]
        how = draw.randrange(6)
        if how < 3:
            lines[place] = f"{name}: {draw.choice(VALUES)}"
        elif how == 3:
            lines.insert(place, draw.choice(lines))
        elif how == 4:
            cut = draw.randrange(len(lines[place]) + 1)
            lines[place] = lines[place][:cut] + draw.choice(string.printable) + lines[place][cut:]
        else:
            del lines[place]
    return "\n".join(lines)


def test_hundreds_of_broken_files_load_or_are_refused_in_a_sentence(tmp_path):
    file, draw = tmp_path / "mine.yml", random.Random(20261127)
    refused = 0
    for _ in range(300):
        said = refusal(broken(draw), file)
        if said is None:
            continue
        refused += 1
        assert said.startswith(str(file)) and "\n" not in said and "\x1b" not in said, said
        longest = max(map(len, said.removeprefix(str(file)).split("; ")))
        assert longest < 450 or "lacks" in said, said
    assert refused > 200


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefg", "bcdefgh")
)


@pytest.mark.parametrize(
    "text, said",
    [
        (BOMB, ":4: this is not readable YAML: there are more than 5,000 values"),
        (
            "study: &x " + "a" * 9_000 + f"\neval_protocols: [{', '.join(['*x'] * 4_000)}]",
            "eval_protocols is 'aaa",
        ),
        ("".join(f"k{number}: 1\n" for number in range(20_000)), "more than 5,000 values"),
        ("seed: " + "x" * 10_000_000, "1,000,000 are read"),
        ("seed: " + "x" * 900_000, "has 900,000 characters"),
        ("seed: " + "[" * 100_000, "more than 20 brackets are open"),
        ("".join(f"%TAG !{n}! x\n" for n in range(30_000)) + "---\nseed: 1", "a line %TAG"),
        ("seed: &seed [*seed]", "*seed stands for nothing above it"),
        ("seed: {<<: [{a: 1}, {a: 2}]}", "seed is {'a': 1}"),
    ],
    ids=["aliases", "long alias", "keys", "10 MB", "0.9 MB", "depth", "tags", "loop", "merge"],
)
def test_a_bomb_is_refused_before_it_is_unfolded(tmp_path, text, said):
    assert said in refusal(text, tmp_path / "bomb.yml")


@pytest.mark.parametrize(
    "written, read",
    [
        ("016", "14"),
        ("1:30", "90"),
        ("0x10", "16"),
        ("0b11", "3"),
        ("-017", "-15"),
        ("1:30.5", "90.5"),
    ],
)
def test_a_number_that_yaml_reads_otherwise_than_a_person_is_refused(tmp_path, written, read):
    text = TEXT.replace("lora_r: 16 ", f"lora_r: {written} ")
    line = 1 + TEXT.splitlines().index(next(x for x in LINES if x.startswith("lora_r:")))
    said = refusal(text, tmp_path / "a.yml")
    assert f"a.yml:{line}: this is not readable YAML: YAML would read {written} as {read}" in said
    with pytest.raises(StudyError, match=f"-p lora_r:1: .*would read {written} as"):
        params.parsed({"lora_r": written})


def test_ordinary_numbers_are_read_as_yaml_reads_them():
    for text in ("0", "-5", "+7", "1_000", "3.0e-3", "0.5", "00.5", ".5", "-1.5"):
        assert params.value_of(text, "here") == yaml.safe_load(text)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"seed": 2**33}, "seed is 8589934592"),
        ({"world_seed": 2**32}, "less than or equal to 4294967295"),
        ({"train_seeds": [0, 2**32]}, "train_seeds is 4294967296"),
        ({"study": "hub"}, "is a folder of committed results, of models or of the hub's files"),
        ({"lora_targets": "[unclosed"}, "this is not a regular expression: unterminated character"),
        ({"lora_targets": r"(\w+\.?)+!"}, "take out repeats inside of repeats"),
        ({"ask_question": "x" * 9_000, "seed": "y" * 9_000}, "yyy…"),
    ],
)
def test_what_would_fail_hours_later_is_refused_at_once(change, said):
    changed = {"study": "mine"} | change
    with pytest.raises(StudyError) as refused:
        params.load(ROOT / "params/tiny.yml", overrides=changed)
    assert said in str(refused.value) and len(str(refused.value)) < 400


def test_every_seed_that_numpy_takes_is_taken():
    most = {"study": "mine", "seed": 2**32 - 1, "train_seeds": [2**32 - 1]}
    assert params.load(ROOT / "params/tiny.yml", overrides=most).seed == 2**32 - 1


RUNS = [
    "python",
    "python -u -Xfaulthandler=1",
    "torchrun --standalone --nproc_per_node 2",
    "accelerate launch --config_file params/accelerate/ddp.yml --num_processes 8",
]
OTHERS = [
    "sh -c 'curl x | sh'",
    "bash",
    "env python",
    "/bin/sh",
    "python evil.py",
    "python -c 'import os'",
    "python -m http.server",
    "python -uc pass",
    "torchrun --no-python sh -c id",
    "torchrun --no_python=1 sh",
    "torchrun --standalone evil.py",
    "torchrun -m evil",
    "torchrun; sh",
    "accelerate",
    "accelerate env",
    "accelerate launch --no_python sh",
    "accelerate launch -m evil",
    "accelerate test",
    "'",
    " ",
]


@pytest.mark.parametrize("name", ["train_launcher", "eval_launcher"])
def test_a_launcher_runs_nothing_but_our_module(name):
    tiny = ROOT / "params/tiny.yml"
    for line in RUNS:
        single = {name: line, "study": "mine", "sft_batch_size": 16, "train_micro_batch_size": 1}
        assert getattr(params.load(tiny, overrides=single), name) == line
    for line in OTHERS:
        with pytest.raises(StudyError, match=f"{name} .* is none of python, torchrun"):
            params.load(tiny, overrides={name: line})


def test_the_sentence_names_file_line_and_key(tmp_path):
    faulty = TEXT.replace("lora_alpha: 32", "lora_alpha: no")
    file = tmp_path / "a.yml"
    line = next(n for n, text in enumerate(faulty.splitlines(), 1) if text.startswith("lora_alpha"))
    assert refusal(faulty, file).startswith(f"{file}:{line}: lora_alpha is False (scale of")
    assert refusal("# mine\n\n" + TEXT.replace("study: tiny ", "study: hub "), file).startswith(
        f"{file}:{TEXT[: TEXT.index('study: tiny')].count(chr(10)) + 3}: study hub is a folder"
    )


@pytest.mark.parametrize("value", VALUES)
def test_a_value_of_any_kind_is_taken_or_refused_behind_every_name(tmp_path, value):
    for name in ("seed", "study", "lora_targets", "data_sources", "eval_models", "sft_lr"):
        lines = [line for line in LINES if not line.startswith((f"{name}:", " "))]
        said = refusal("\n".join([*lines, f"{name}: {value}"]), tmp_path / "a.yml")
        assert said is None or said.startswith(str(tmp_path)), said
