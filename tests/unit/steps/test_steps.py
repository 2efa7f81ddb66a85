"""Steps: done.json says what a result was made from, and nothing else decides whether it is made
again.
"""

import json
import os
import shutil

import pytest

from sm70lib.steps import compared, keys, replaced, steps
from sm70lib.study import files, params, provenance
from sm70lib.study.params import StudyError
from tests.toy import TOY


def test_a_finished_study_has_its_marks(made):
    assert made.all() == {}
    done = json.loads((made.toy.study / "steps/03_qlora_finetune/done.json").read_text())
    assert done["key"]["parameters"] == {
        "lora_r": made.study.lora_r,
        "sft_steps": made.study.sft_steps,
    }
    assert set(done["key"]["inputs"]) == {
        "base/base.json",
        "base/model",
        "data/train",
        "data/holdout",
    }
    assert set(done["outputs"]) == {"adapter", "stages/1-sft/metrics.jsonl"}
    assert done["parameters"]["train_micro_batch_size"] == 16
    assert done["peak_memory_gb"] > 0 and done["seconds"] >= 0 and "torch" in done["versions"]
    manifest = json.loads((made.toy.study / "manifest.json").read_text())
    assert list(manifest["steps"]) == list(steps.STEPS) and manifest["seeds"] == {"world_seed": 11}
    assert not list(made.toy.study.rglob("begun.json"))


@pytest.mark.parametrize(
    "name, value, runs",
    [
        ("figures_dpi", 200, "06"),
        ("errors_examples", 9, "05"),
        ("eval_limit", 3, "04 05 06"),
        ("lora_r", 8, "03 04 05 06"),
        ("quant_type", "none", "02 06"),
        ("data_limit", 9, "01 03 04 05 06"),
        (
            "world_seed",
            12,
            "00 01 02 03 04",
        ),  # the toy predicts the same from another base: there the chain ends
        ("train_micro_batch_size", 8, ""),
        ("eval_batch_tokens", 10, ""),
        ("stats_level", 0.9, ""),
    ],
)
def test_a_parameter_redoes_what_declares_it_and_what_reads_that(made, name, value, runs):
    made.toy.change(name, value)
    assert [step[:2] for step in sorted(made.all(again=replaced.TRAINED))] == runs.split()


def test_the_reason_is_named(made):
    made.toy.change("lora_r", 8)
    assert made.why("03_qlora_finetune") == "lora_r: 16 -> 8"
    made.run("03_qlora_finetune", anew=True)
    assert made.why("04_eval") == "adapter changed"


def test_an_equal_result_stops_the_chain(made):
    made.toy.change("errors_examples", 6)
    assert list(made.all()) == ["05_error_analysis"]
    made.run(
        "03_qlora_finetune"
    )  # once more by hand: other JSON beside the adapter, the same weights
    assert steps.status("04_eval", made.study) == (True, "finished")


def test_code_redoes_quick_steps_and_never_a_trained_adapter(made):
    for name in TOY:
        made.toy.write(name, "# only a comment")
    assert made.all() == {}
    for name in TOY:
        made.toy.write(name, "x = 1")
    assert "other code now; --fresh 03 to redo" in steps.status("03_qlora_finetune", made.study)[1]
    assert made.why("06_figures") == "06_figures.ipynb changed"
    assert sorted(made.all()) == sorted(steps.QUICK)


def test_code_reaches_modules_and_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "LIB", tmp_path)
    for wing in ("tiny", "other"):
        (tmp_path / wing).mkdir()
    files = {
        "a.py": "from sm70lib import b\n",
        "b.py": "import sm70lib.tiny.c as c\nTABLES = 'q.csv', 'other/all.csv'\n",
        "tiny/c.py": "def f():\n    from sm70lib.d import g\n",
        "d.py": "import sm70lib.tiny.catalogue\n",
        "tiny/catalogue.py": "TABLE = 'tiny/all.csv'\n",
        "tiny/all.csv": "name,object\none,entry:ONE\ntwo,entry:TWO\n",
        "tiny/entry.py": "",
        "other/all.csv": "name,object\none,not_imported:ONE\n",
        "other/not_imported.py": "",
        "q.csv": "1",
        "not.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    book = tmp_path / "n.ipynb"
    source = ["%matplotlib inline\n", "from sm70lib.a import x"]
    cell = {"cell_type": "code", "metadata": {}, "source": source}
    book.write_text(json.dumps({"cells": [cell]}))
    found = provenance.code(book)
    assert set(found) == {"n.ipynb"} | set(files) - {"not.py", "other/not_imported.py"}
    (tmp_path / "d.py").write_text("x = 2\n")
    provenance._module.cache_clear()
    assert [name for name, sha in provenance.code(book).items() if sha != found[name]] == ["d.py"]


def test_data_count_by_content(made, tmp_path):
    folder = tmp_path / "real"
    folder.mkdir()
    (folder / "rows.txt").write_text("a")
    made.toy.change("data_root", folder)
    assert made.why("01_data") == "data_root: world -> a folder"
    made.all(again=replaced.TRAINED)
    shutil.move(folder, tmp_path / "moved")
    assert made.all() == {}, "data moved away cannot have changed"
    made.toy.change("data_root", tmp_path / "moved")
    assert made.all() == {}, "the same data elsewhere"
    (tmp_path / "moved/rows.txt").write_text("b")
    assert made.why("01_data") == "rows.txt is not as it was"
    made.run("01_data")
    assert made.why("03_qlora_finetune") == "data/holdout changed, data/train changed"


def test_size_and_time_are_compared_before_content(made, monkeypatch):
    def refuse(path):
        raise AssertionError(f"{path} was read")

    recorded = steps.mark(made.toy.study, "03_qlora_finetune")["outputs"]
    monkeypatch.setattr(files, "digest", refuse)
    assert [files.holds(made.toy.study / path, recorded[path]) for path in recorded] == [True, True]
    os.utime(made.toy.study / "adapter/adapter_model.safetensors")
    with pytest.raises(AssertionError, match="was read"):
        files.holds(made.toy.study / "adapter", recorded["adapter"])


def test_a_touched_file_still_holds_and_a_changed_one_does_not(made):
    weights = made.toy.study / "adapter/adapter_model.safetensors"
    os.utime(weights)
    assert made.all() == {}
    weights.write_text("other")
    assert made.why("03_qlora_finetune") == "adapter is not as it was"
    with pytest.raises(
        StudyError, match="safetensors is not as 03_qlora_finetune wrote it: run 03.* params/tiny"
    ):
        steps.begin("04_eval", made.study)
    shutil.rmtree(made.toy.study / "predictions")
    assert made.why("04_eval") == "predictions is not as it was"


def test_a_broken_mark_is_no_mark(made):
    (made.toy.study / "steps/06_figures/done.json").write_text("{")
    assert made.why("06_figures") == "its mark steps/06_figures/done.json is broken"
    assert list(made.all()) == ["06_figures"]


def test_a_missing_input_is_refused(toy):
    with pytest.raises(
        StudyError, match="03_qlora_finetune needs base/base.json .* run 00_base first"
    ):
        steps.begin("03_qlora_finetune", params.load(toy.file))
    assert not (toy.study / "steps").exists()


def test_a_missing_output_is_refused(toy):
    step = steps.begin("00_base", params.load(toy.file))
    with pytest.raises(StudyError, match="was to write base/model and did not"):
        step.finish("base/model")
    assert steps.status("00_base", params.load(toy.file)) == (False, "goes on where it stopped")


def test_05_and_06_share_a_folder(made):
    made.toy.change("figures_dpi", 99)
    steps.begin("06_figures", made.study)
    assert [path.name for path in (made.toy.study / "tables").iterdir()] == ["errors.csv"]


def test_a_further_study_counts_by_its_predictions(made):
    made.toy.change("figures_studies", "[other]")
    assert made.why("06_figures") == "waits for ../other/predictions of 04_eval"
    shutil.copytree(made.toy.study, made.toy.study.parent / "other")
    assert list(made.all()) == ["06_figures"]


@pytest.mark.parametrize("linked", ["", "stages"])
def test_a_study_may_be_a_link_to_another_disk(made, linked):
    made.toy.change("figures_studies", "[other]")
    shutil.copytree(made.toy.study, made.toy.study.parent / "other")
    place = made.toy.folder / "disk/far"
    shutil.copytree(made.toy.study / linked, place)
    shutil.rmtree(made.toy.study / linked)
    (made.toy.study / linked).symlink_to(place)
    for name in ("04_eval", "06_figures"):
        made.run(name)
        assert steps.status(name, made.study)[0]


def test_digests_are_of_names_and_contents(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub/x").write_text("1")
    assert steps.digest(tmp_path / "a") == steps.digest(tmp_path / "b")
    (tmp_path / "b/sub/x").rename(tmp_path / "b/sub/y")
    assert steps.digest(tmp_path / "a") != steps.digest(tmp_path / "b")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    steps.write_json(tmp_path / "new/a.json", {"b": 1})
    with pytest.raises(TypeError):
        steps.write_json(tmp_path / "new/a.json", {"b": object()})
    assert json.loads((tmp_path / "new/a.json").read_text()) == {"b": 1}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]


def test_progress_is_written_for_the_runner_and_taken_away(tmp_path):
    with steps.progress(4, "step", "sft", study_folder=tmp_path) as bar:
        bar.mininterval = 0
        bar.update(3)
        seen = json.loads((tmp_path / "progress.json").read_text())
        assert (seen["unit"], seen["n"], seen["total"], bar.n) == ("step", 3, 4, 3)
        assert seen["seconds_left"] >= 0
    assert not (tmp_path / "progress.json").exists()
    with steps.progress(0, "item", "none", study_folder=tmp_path):
        assert json.loads((tmp_path / "progress.json").read_text())["seconds_left"] is None


def test_energy_is_read_from_the_meter_and_empty_without_one(monkeypatch):
    import pynvml

    from sm70lib.study import provenance

    def no_driver():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    assert provenance.energy() is None
    meter = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda n: n,
        "nvmlDeviceGetTotalEnergyConsumption": lambda card: 3.6e9 * (card + 1),
    }
    for name, answer in meter.items():
        monkeypatch.setattr(pynvml, name, answer)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert provenance.energy() == 3.0, "kWh of both cards, from millijoules"
    for visible, used in (("1", 2.0), ("0", 1.0), ("0, 1", 3.0), ("", None), ("-1", None)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert provenance.energy() == used, "another study may run on the other card"


def test_many_changed_modules_are_counted_and_changed_inputs_all_named():
    """An edit of the code changes many modules at once; a reader wants the inputs and a number."""
    code = {f"m{number}.py": "a" for number in range(9)}
    old = {"parameters": {}, "inputs": {"data/train": "a", "adapter": "a"}, "code": code}
    new = {
        "parameters": {},
        "inputs": {"data/train": "b", "adapter": "b"},
        "code": dict.fromkeys(code, "b"),
    }
    said = compared.difference(old, new)
    assert said == (
        "adapter changed, data/train changed, m0.py, m1.py, m2.py and 6 more modules changed"
    )


def test_the_look_of_figures_redoes_only_the_steps_that_write_figures():
    study = params.load(params.ROOT / "params/tiny.yml")
    other = study.model_copy(update={"figures_dpi": 300, "figures_palette": "dark"})
    redone = [
        name for name in steps.STEPS if keys.of_step(name, study) != keys.of_step(name, other)
    ]
    assert redone == ["05_error_analysis", "06_figures"]
    drawing = [
        name for name in steps.STEPS if "figures_dpi" in provenance.declared(keys.notebook(name))
    ]
    assert drawing == [name for name in steps.STEPS if name != "04_eval"], "04 draws nothing"
