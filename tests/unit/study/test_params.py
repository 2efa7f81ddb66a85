"""Study files and the notebooks' check: what is wrong is refused in a sentence,
and what is right is frozen.
"""

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some
from pydantic import ValidationError

from sm70lib.parameters import fields
from sm70lib.study import params, used, variants
from sm70lib.study.params import ROOT, StudyError

TINY = ROOT / "params/tiny.yml"
TEXT = TINY.read_text()


def wrong(file: Path | str, **overrides) -> str:
    """The sentence with which a study is refused."""
    with pytest.raises(StudyError) as refusal:
        params.load(file, overrides=overrides)
    sentence = str(refusal.value)
    assert "\n" not in sentence
    return sentence


def test_every_study_file_loads():
    files = sorted((ROOT / "params").glob("*.yml"))
    studies = [params.load(file) for file in files]
    assert [study.study for study in studies] == [file.stem for file in files]
    assert len(files) >= 4, "counted so that an empty folder is no success"


def test_every_overlay_loads_on_the_study_it_belongs_to():
    pairs, there = variants.overlays(), list((ROOT / "params/overlays").glob("*.yml"))
    assert len(pairs) == len(there) >= 15
    for study, overlay in pairs:
        changed = params.load(study, overlay)
        assert changed.study != study.stem and changed != params.load(study), overlay.name


def test_a_study_needs_a_file():
    with pytest.raises(StudyError, match="no study file; give one, such as params/tiny.yml"):
        params.load()


def test_values_have_the_types_they_mean(tmp_path):
    file = tmp_path / "a.yml"
    file.write_text(TEXT.replace("lr: 3.0e-3", "lr: 3e-3").replace("dropout: 0.0", "dropout: 0"))
    study = params.load(file)
    assert (study.sft_lr, study.lora_dropout) == (0.003, 0.0)
    assert (study.data_limit, study.train_stages) == (None, ["sft"])
    with pytest.raises(ValidationError):
        study.seed = 1


@pytest.mark.parametrize(
    "change, sentence",
    [
        ("lora_r: 16 -> lora_rank: 16", "there is no parameter lora_rank; did you mean lora_r?"),
        (
            "lora_r: 16 -> lora_r: '3'",
            "lora_r is '3' (rank of the adapter): Input should be a valid integer",
        ),
        ("lora_r: 16 -> lora_r: true", "lora_r is True"),
        ("lora_r: 16 -> lora_r: 16.0", "lora_r is 16.0"),
        ("lora_r: 16 -> lora_r: 0", "greater than or equal to 1"),
        ("sft_lr: 3.0e-3 -> sft_lr: fast", "sft_lr is 'fast'"),
        ("sft_lr: 3.0e-3 -> sft_lr: true", "sft_lr is True"),
        ("sft_lr: 3.0e-3 -> sft_lr: .nan", "sft_lr is nan"),
        ("quant_double: true -> quant_double: 1", "quant_double is 1"),
        ("quant_type: nf4 -> quant_type: int3", "quant_type is 'int3'"),
        ("data_limit: null -> data_limit: 1.5", "data_limit is 1.5"),
        ("train_stages: [sft] -> train_stages: [sft, sft]", "only dpo may be repeated"),
        (
            "train_stages: [sft] -> train_stages: [dpo, sft]",
            "train_stages ['dpo', 'sft'] is not in the order cpt, sft, dpo",
        ),
        ("train_seeds: [0] -> train_seeds: [1, 1]", "given twice"),
        ("eval_shots: [0] -> eval_shots: [-1]", "eval_shots is -1"),
        ("- medical_meadow_cord19 -> - medical_meadow_cord20", "'medical_meadow_cord20'"),
        (
            "- medical_meadow_cord19 -> - medical_meadow_cord20",
            "did you mean medical_meadow_cord19?",
        ),
        ("[medqa_4, pubmedqa, usmle] -> [medqa4, pubmedqa, usmle]", "did you mean medqa_4?"),
        (
            "eval_primary_protocol: sm70-2023 -> eval_primary_protocol: sm70-2032",
            "did you mean sm70-2023?",
        ),
        ("study: tiny -> study: ../../x", "study is '../../x'"),
        ("study: tiny -> study: Tiny", "study is 'Tiny'"),
        ("study: tiny -> study: reference", "choose another"),
        ("seed: 0 -> study: other", "study is given twice"),
        ("seed: 0 -> seed: [0", "not readable YAML"),
        ("seed: 0 -> seed: !!python/name:os.system", "not readable YAML"),
        (
            "base_heads: 4 -> base_heads: 5",
            "base_hidden_size 128 is not a multiple of twice base_heads 5",
        ),
        (
            "train_micro_batch_size: 16 -> train_micro_batch_size: 5",
            "sft_batch_size 16 is not a multiple of",
        ),
        (
            "eval_primary_shots: 0 -> eval_primary_shots: 5",
            "eval_shots [0] lacks eval_primary_shots 5",
        ),
        (", usmle_step3, ->,", "eval_benchmarks"),
        (
            "figures_studies: [] -> figures_studies: [tiny]",
            "figures_studies ['tiny'] contains study tiny",
        ),
    ],
)
def test_a_fault_is_named(tmp_path, change, sentence):
    old, new = change.split(" -> ") if " -> " in change else change.split("->")
    assert old in TEXT
    file = tmp_path / "faulty.yml"
    file.write_text(TEXT.replace(old, new, 1))
    found = wrong(file)
    assert sentence in found and str(file) in found


def test_missing_names_are_listed(tmp_path):
    file = tmp_path / "short.yml"
    lines = [line for line in TEXT.splitlines() if not line.startswith(("seed:", "lora_r:"))]
    file.write_text("\n".join(lines))
    assert wrong(file).endswith("lacks seed; lora_r (needed by train_parameters adapter)")


def test_a_file_that_is_older_than_a_parameter_says_what_was_done_before(tmp_path):
    tiny = yaml.safe_load(TINY.read_text())
    assert {name: tiny[name] for name in fields.BEFORE} == fields.BEFORE, "as the notebooks' cells"
    older = {name: value for name, value in tiny.items() if name not in fields.BEFORE}
    path = tmp_path / "tiny.yml"
    path.write_text(yaml.safe_dump(older))
    assert params.load(path) == params.load(TINY) and len(fields.BEFORE) >= 10


@pytest.mark.parametrize(
    "content", [b"", b"# no\n", b"- a\n- b\n", b"word\n", b"\xff\xfe\x00a\x80", b"\x00"]
)
def test_an_empty_or_broken_file_is_refused(tmp_path, content):
    file = tmp_path / "broken.yml"
    file.write_bytes(content)
    assert "broken.yml" in wrong(file)


def test_an_unknown_study_lists_the_known_ones():
    assert "there is no such file; the studies in params/ are: " in wrong("params/nosuch.yml")
    assert "tiny" in wrong("params/nosuch.yml").split("are: ")[1]


@settings(deadline=None)  # a busy machine takes longer over one example than hypothesis allows
@given(
    some.dictionaries(
        some.text(min_size=1) | some.sampled_from(list(fields.FIELDS)),
        some.none()
        | some.booleans()
        | some.integers()
        | some.floats()
        | some.text()
        | some.lists(some.integers() | some.text(), max_size=3),
        max_size=4,
    )
)
def test_whatever_a_file_holds_is_loaded_or_refused_in_words(tmp_path_factory, values):
    file = tmp_path_factory.mktemp("any") / "any.yml"
    file.write_text(yaml.safe_dump(yaml.safe_load(TEXT) | values), encoding="utf-8")
    try:
        study = params.load(file)
    except StudyError as error:
        assert str(error).strip()
    else:
        found = study.model_dump()
        assert set(found) == {name for name in fields.FIELDS if used.counts(name, found)}


def test_results_change_only_under_another_name(tmp_path):
    assert "changes the results of tiny" in wrong(TINY, lora_r=8)
    assert params.load(TINY, overrides={"lora_r": 8, "study": "tiny-r8"}).lora_r == 8
    same = {"lora_r": 16, "sft_lr": "3e-3"}
    harmless = {"train_micro_batch_size": 8, "figures_dpi": 200, "data_root": "hub"}
    assert params.load(TINY, overrides=same | harmless).figures_dpi == 200
    overlay = tmp_path / "overlay.yml"
    overlay.write_text("lora_r: 8\n")
    with pytest.raises(StudyError, match="overlay.yml:1: lora_r 8 changes the results of tiny"):
        params.load(TINY, overlay)
    overlay.write_text("study: tiny-r8\nlora_r: 8\n")
    assert params.load(TINY, overlay).lora_r == 8
    with pytest.raises(StudyError, match="-p: lora_alpha 8 changes the results of tiny-r8"):
        params.load(TINY, overlay, overrides={"lora_alpha": 8})


GRID = sorted((ROOT / "params/overlays").glob("grid-*.yml"))


def test_the_grid_is_whole_and_chosen_on_dev_items():
    base = params.load(ROOT / "params/sm70-7b.yml")
    cells = {}
    for overlay in GRID:
        cell = params.load(ROOT / "params/sm70-7b.yml", overlay)
        cells[cell.sft_lr, cell.data_template, cell.sft_loss] = cell
        assert cell.study == overlay.stem and cell.eval_benchmarks == [
            "medqa_4_dev",
            "pubmedqa_dev",
        ]
        assert cell.eval_primary_benchmarks == cell.eval_benchmarks and cell.train_seeds == [0]
        values = cell.model_dump()
        other = {name for name in values if values[name] != getattr(base, name)}
        assert other <= {
            "study",
            "train_seeds",
            "sft_lr",
            "data_template",
            "sft_loss",
            "eval_benchmarks",
            "eval_primary_benchmarks",
        }
    assert len(GRID) == len(cells) == 8
    assert (base.sft_lr, base.data_template, base.sft_loss) in cells
    assert "usmle_step1" in base.eval_benchmarks, "the study of the chosen cell asks the test"


@pytest.mark.parametrize(
    "value", [["medqa_4", "pubmedqa_dev"], ["medqa_4_dev", "pubmedqa"], ["truthfulqa"], ["medmcqa"]]
)
def test_a_notebook_of_a_grid_may_not_ask_test_items(value):
    for study in ("grid", "grid-of-mine", "rehearsal-grid-of-mine"):
        with pytest.raises(StudyError) as refusal:
            params.check({"study": study, "eval_benchmarks": value})
        said = str(refusal.value)
        assert f"eval_benchmarks {value} holds test items" in said
        assert said.endswith(f"give only medqa_4_dev and pubmedqa_dev to study {study}")
    assert params.check({"study": "my-grid", "eval_benchmarks": value}), "the name has to begin so"


def test_a_grid_is_refused_by_its_name_alone():
    said = wrong(TINY, study="grid-tiny")
    assert "holds test items, on which no grid may choose" in said and "'medqa_4'" in said
    assert said.endswith("give only medqa_4_dev and pubmedqa_dev to study grid-tiny")


def test_an_overridden_folder_starts_where_the_user_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert params.load(TINY, overrides={"data_root": "data"}).data_root == str(tmp_path / "data")
    assert "data_root is nowhere, which is not a folder" in wrong(TINY, data_root="nowhere")


# ---- the check at the top of a notebook ----------------------------------------------------------

CELL = (
    "from typing import Optional\nstudy: str = 'tiny'  # name\nlora_r: int = 16\n"
    "sft_lr: float = 3.0e-3"
)


def checked(injected: str = "", cell: str = CELL):
    """What `check` returns in a kernel that ran the parameters cell, and papermill's where that is
    given.
    """
    cells = [
        "",
        cell,
        *([f"# Parameters\n{injected}"] if injected else []),
        "p = params.check(globals())",
    ]
    scope: dict = {"In": cells}
    for source in cells[1:-1]:
        exec(source, scope)
    return params.check(scope)


def test_check_returns_what_the_cell_declares():
    p = checked()
    assert p.model_dump() == {"study": "tiny", "lora_r": 16, "sft_lr": 0.003}
    with pytest.raises(ValidationError):
        p.lora_r = 1
    with pytest.raises(AttributeError):
        _ = p.seed


def test_check_takes_a_whole_study_and_leaves_other_notebooks_names():
    p = checked("study = 'other'\nlora_r = 8\nsft_lr = '1e-4'\nseed = 3")
    assert p.model_dump() == {"study": "other", "lora_r": 8, "sft_lr": 0.0001}


@pytest.mark.parametrize(
    "injected, sentence",
    [
        ("lora_rang = 8", "there is no parameter lora_rang; did you mean lora_r?"),
        ("lora_r = '8'", "lora_r is '8'"),
        ("sft_lr = 'fast'", "sft_lr is 'fast'"),
        ("study = 'sm70'\nlora_r = 64", "study sm70 came without sft_lr"),
        ("study = '../x'\nlora_r = 64\nsft_lr = 0.1", "study is '../x'"),
    ],
)
def test_check_refuses(injected, sentence):
    with pytest.raises(StudyError) as refusal:
        checked(injected)
    assert sentence in str(refusal.value)


FIRST = {  # of the parameters that differ
    "00_base": "base_model is None here",
    "03_qlora_finetune": "data_max_length",
    "07_ask": "quant_compute_dtype",
}


def first_cell(name: str, **changed) -> str:
    """The parameters cell of a notebook, as somebody has changed it in JupyterLab."""
    cells = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text())["cells"]
    code = "".join(next(cell for cell in cells if cell["cell_type"] == "code")["source"])
    for parameter, value in changed.items():
        line = rf"^({parameter}: [^=]+=) .+?(  #.*)$"
        code, count = re.subn(line, rf"\1 {value!r}\2", code, flags=re.MULTILINE)
        assert count == 1, parameter
    return code


@pytest.mark.parametrize("name", ["00_base", "03_qlora_finetune", "07_ask"])
def test_the_name_of_another_study_alone_does_not_make_it_that_study(name):
    """What JupyterLab's user sees who changes `study` and nothing else in the first cell."""
    assert checked(cell=first_cell(name)).study == "tiny"
    assert checked(cell=first_cell(name, study="my-own")).study == "my-own"
    for study, files in {
        "sm70-7b": "params/sm70-7b.yml",
        "sm70-clean": "params/sm70.yml params/overlays/sm70-clean.yml",
    }.items():
        with pytest.raises(StudyError) as refusal:
            checked(cell=first_cell(name, study=study))
        said = str(refusal.value)
        assert said.startswith(f"notebook: study {study} is declared by {files}, but "), said
        assert f"`python -m sm70lib run {files}`" in said and "give study a name of your" in said
        assert f"outputs/{study}/notebooks" in said and FIRST[name] in said and "\n" not in said


def test_a_study_of_params_with_its_own_values_runs_by_hand_and_injected():
    values = params.load(ROOT / "params/sm70-7b.yml").model_dump()
    own = {n: values[n] for n in ("study", "lora_r", "sft_lr")}
    assert checked(cell="\n".join(f"{n} = {v!r}" for n, v in own.items())).lora_r == own["lora_r"]
    assert checked("\n".join(f"{n} = {v!r}" for n, v in own.items())).study == "sm70-7b"
    assert checked(cell=CELL.replace("16", "8")).lora_r == 8, "tiny with one value changed"


def test_check_of_a_value_edited_by_hand():
    with pytest.raises(StudyError, match="notebook: lora_r is 0"):
        checked(cell=CELL.replace("16", "0"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("meta-llama/Llama-2-7b-hf", "eval_models is .*lower-case letters, digits"),
        ("Llama", "eval_models is .*lower-case letters, digits"),
        ("tuned", "takes a name of the study's own models"),
        ("base-nf4", "takes a name of the study's own models"),
        ("merged-original", "takes a name of the study's own models"),
    ],
)
def test_a_name_that_no_table_can_show_or_that_is_taken_is_refused(name, said):
    given = {"study": "mine", "eval_models": {name: "some/model"}}
    with pytest.raises(StudyError, match=said):
        params.load(TINY, overrides=given)
    assert params.load(TINY, overrides=given | {"eval_models": {"base-2": "some/model"}})


def test_a_tracker_that_is_not_installed_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr("sm70lib.parameters.rules.find_spec", lambda name: None)
    with pytest.raises(StudyError, match="train_report_to trackio is not installed here"):
        params.load(ROOT / "params/tiny.yml", overrides={"train_report_to": "trackio"})
