"""Parameters: the one definition of every name, the strict loader of study files, the notebooks' check."""

import ast
import csv
import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
)

ROOT = Path(__file__).resolve().parents[2]
LIB = ROOT / "sm70lib"
REHEARSAL = "rehearsal-"  # what the names of rehearsed studies begin with, and no others


class StudyError(ValueError):
    """Something a user can put right, said in one sentence."""


def _distinct(values: list) -> list:
    if len(set(values)) < len(values):
        raise ValueError("something is given twice")
    return values


def _p(text: str, unit: str = "", affects: str = "results", **bounds: Any) -> Any:
    """A field; affects: `results`, `looks` (may be overridden under the same study name) or `nothing`."""
    return Field(description=text, json_schema_extra={"unit": unit, "affects": affects}, **bounds)


# 1e-4 without a dot is a text to YAML 1.1, and to papermill with it: read it as the number it means
Number = Annotated[float, BeforeValidator(lambda value: float(value) if isinstance(value, str) else value)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]
Policy = Literal["report", "drop", "fail"]
with (Path(__file__).parents[1] / "sources/sources.csv").open(encoding="utf-8") as _file:
    Source = Literal[tuple(row["name"] for row in csv.DictReader(_file))]
Benchmark = Literal["medqa_4", "medqa_4_dev", "medqa_5", "pubmedqa", "pubmedqa_dev", "usmle_step1",
                    "usmle_step2", "usmle_step3", "medmcqa", "mmlu_medical", "mmlu_medical_9",
                    "truthfulqa", "xstest_safe", "xstest_unsafe", "medsafety"]
Protocol = Literal["sm70-2023", "sm70-2023-clean", "sm70-2023-inst", "sm70-2023-vast",
                   "sm70-2023-letters", "options-only", "harness", "harness-mc2", "meditron",
                   "med42", "as-trained", "question-only", "report-unfinished", "generate",
                   "generate-vote", "safety"]
Optimizer = Literal["adamw_torch", "paged_adamw_32bit", "paged_adamw_8bit", "adamw_bnb_8bit", "rmsprop"]
Scheduler = Literal["linear", "cosine", "constant", "constant_with_warmup"]
Palette = Literal["colorblind", "deep", "muted", "bright", "dark", "pastel"]
Distinct = Annotated[list[TypeVar("T")], AfterValidator(_distinct)]


class Study(BaseModel):
    """Every parameter of a study; checked, and frozen."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)
    study: Name = _p("name of the study and of its folder in outputs/", affects="nothing")
    seed: int = _p("seed of sampling: rows held back, examples drawn", ge=0)
    world_seed: int = _p("seed of the fictional medicine", ge=0)
    world_conditions: int = _p("invented conditions", "conditions", ge=1)
    base_model: str | None = _p("hub name or folder of the base; null trains a small one here", min_length=1)
    base_text: Distinct[Source] = _p("sources whose text the small base is pretrained on")
    base_vocab_size: int = _p("entries of the small base's tokenizer", "tokens", ge=260)
    base_hidden_size: int = _p("width of the small base", "units", ge=8)
    base_layers: int = _p("layers of the small base", "layers", ge=1)
    base_heads: int = _p("attention heads of the small base", "heads", ge=1)
    base_kv_heads: int = _p("key-value heads of the small base", "heads", ge=1)
    base_intermediate_size: int = _p("width of its feed-forward layers", "units", ge=8)
    base_context: int = _p("longest context of the small base", "tokens", ge=64)
    base_steps: int = _p("pretraining length", "steps", ge=1)
    base_batch_size: int = _p("pretraining batch", "sequences per step", ge=1)
    base_length: int = _p("length of a pretraining sequence", "tokens", ge=8)
    base_lr: Number = _p("peak learning rate of pretraining", gt=0, le=1)
    data_root: str = _p("world, hub, or a folder of sources and benchmarks", affects="nothing")
    data_sources: Distinct[Source] = _p("instruction sources to tune on", min_length=1)
    data_limit: int | None = _p("at most so many rows of each source, drawn by seed; null is all", "rows", ge=1)
    data_caps: dict[Source, Annotated[int, Field(ge=1)]] = _p("at most so many rows of single sources", "rows")
    data_template: Literal["medalpaca", "sm70"] = _p("prompt template of the training rows")
    data_max_length: int = _p("longest training row", "tokens", ge=16)
    data_overlong: Literal["cut", "drop"] = _p("what happens to longer rows; cut shortens the input only")
    data_holdout: int = _p("rows kept back for the held-out loss", "rows", ge=0)
    audit_leak: Policy = _p("policy for rows that contain a benchmark item")
    audit_duplicate: Policy = _p("policy for repeated rows")
    audit_personal: Policy = _p("policy for rows with e-mail addresses or telephone numbers")
    audit_label: Literal[Policy, "repair"] = _p("policy for rows with a suspect label")
    quant_type: Literal["nf4", "none"] = _p("quantisation of the frozen base")
    quant_double: bool = _p("quantise the quantisation constants too")
    quant_compute_dtype: Literal["float32", "bfloat16"] = _p("type that quantised layers compute in")
    plan_dollars_per_hour: Number | None = _p("price of one GPU; null plans no money", affects="looks", gt=0)
    lora_r: int = _p("rank of the adapter", ge=1)
    lora_alpha: int = _p("scale of the adapter (times 1 / lora_r)", ge=1)
    lora_dropout: Number = _p("dropout in front of the adapter", "share", ge=0, lt=1)
    lora_targets: str = _p("adapted layers: all-linear, or a regular expression", min_length=1)
    lora_dtype: Literal["fp32", "bf16"] = _p("type of the adapter's weights")
    lora_rslora: bool = _p("divide the scale by the root of lora_r (rsLoRA, arXiv 2312.03732)")
    lora_dora: bool = _p("train magnitudes apart from directions (DoRA, arXiv 2402.09353)")
    train_stages: list[Literal["cpt", "sft", "dpo"]] = _p("training rounds", min_length=1)
    train_seeds: Distinct[Annotated[int, Field(ge=0)]] = _p("seeds of training; the first makes adapter/", min_length=1)
    train_merge: Distinct[Literal["original", "dequantised"]] = _p("bases that the adapter is merged into")
    train_launcher: str = _p("command in front of the training module", affects="nothing", min_length=1)
    train_micro_batch_size: int = _p("sequences per device and pass", "sequences", affects="nothing", ge=1)
    train_save_steps: int = _p("distance of checkpoints", "steps", affects="nothing", ge=1)
    train_gradient_checkpointing: bool = _p("recompute activations to save memory", affects="nothing")
    cpt_sources: Distinct[Source] = _p("sources of running text for continued pretraining, replay among them")
    cpt_steps: int = _p("length of continued pretraining", "optimiser steps", ge=1)
    cpt_batch_size: int = _p("batch of an optimiser step", "sequences", ge=1)
    cpt_lr: Number = _p("peak learning rate", gt=0, le=1)
    cpt_scheduler: Scheduler = _p("shape of the learning rate")
    cpt_warmup: Number = _p("warm-up", "share of steps", ge=0, lt=1)
    cpt_weight_decay: Number = _p("weight decay", ge=0, le=1)
    cpt_max_grad_norm: Number = _p("gradient norm above which gradients are scaled down", gt=0)
    cpt_optimizer: Optimizer = _p("optimiser")
    cpt_packing: bool = _p("put several texts into one sequence")
    sft_loss: Literal["response", "all"] = _p("tokens that the loss counts")
    sft_steps: int = _p("length of supervised tuning", "optimiser steps", ge=1)
    sft_batch_size: int = _p("batch of an optimiser step", "sequences", ge=1)
    sft_lr: Number = _p("peak learning rate", gt=0, le=1)
    sft_scheduler: Scheduler = _p("shape of the learning rate")
    sft_warmup: Number = _p("warm-up", "share of steps", ge=0, lt=1)
    sft_weight_decay: Number = _p("weight decay", ge=0, le=1)
    sft_max_grad_norm: Number = _p("gradient norm above which gradients are scaled down", gt=0)
    sft_optimizer: Optimizer = _p("optimiser")
    sft_packing: bool = _p("put several rows into one sequence")
    dpo_sources: Distinct[Source] = _p("sources of preferences")
    dpo_rounds: dict[Source, Annotated[int, Field(ge=1)]] = _p("the one dpo round that a source is for", "round")
    dpo_steps: int = _p("length of each preference round", "optimiser steps", ge=1)
    dpo_batch_size: int = _p("batch of an optimiser step", "pairs", ge=1)
    dpo_lr: Number = _p("peak learning rate", gt=0, le=1)
    dpo_scheduler: Scheduler = _p("shape of the learning rate")
    dpo_warmup: Number = _p("warm-up", "share of steps", ge=0, lt=1)
    dpo_weight_decay: Number = _p("weight decay", ge=0, le=1)
    dpo_max_grad_norm: Number = _p("gradient norm above which gradients are scaled down", gt=0)
    dpo_optimizer: Optimizer = _p("optimiser")
    dpo_beta: Number = _p("strength of the tie to the reference model", gt=0)
    eval_benchmarks: Distinct[Benchmark] = _p("benchmarks to predict", min_length=1)
    eval_protocols: Distinct[Protocol] = _p("ways of asking and scoring", min_length=1)
    eval_shots: Distinct[Annotated[int, Field(ge=0)]] = _p("examples shown before an item", min_length=1)
    eval_limit: int | None = _p("at most so many items of a protocol; null is all", "items", ge=1)
    eval_batch_tokens: int = _p("tokens of a forward pass", "tokens", affects="nothing", ge=1)
    eval_models: dict[str, str] = _p("other models scored beside the study's own")
    eval_launcher: str = _p("command in front of the scoring module", affects="nothing", min_length=1)
    eval_primary_protocol: Protocol = _p("protocol of the declared comparison")
    eval_primary_shots: int = _p("shots of the declared comparison", "examples", ge=0)
    eval_primary_benchmarks: Distinct[Literal[Benchmark, "usmle"]] = _p("benchmarks compared", min_length=1)
    ask_question: str | None = _p("question of 07_ask; null takes the study's items", affects="looks", min_length=1)
    ask_max_new_tokens: int = _p("longest answer in 07_ask", "tokens", affects="looks", ge=1)
    errors_examples: int = _p("examples shown of each kind of error", "items", affects="looks", ge=0)
    figures_dpi: int = _p("resolution of the figures", "dots per inch", affects="looks", ge=50, le=600)
    figures_palette: Palette = _p("colours", affects="looks")
    figures_studies: Distinct[Name] = _p("further studies shown beside this one")
    stats_resamples: int = _p("flips drawn by the paired test of clusters", "flips", ge=100)
    stats_level: Number = _p("level of the intervals", "share", gt=0.5, lt=1)


FIELDS = Study.model_fields


def rehearsal(study: str) -> str:
    """What stands on every page, table, figure and mark of a rehearsed study; nothing for any other."""
    return "Rehearsal, stand-in weights: no number here means anything." if study.startswith(REHEARSAL) else ""


def affects(name: str) -> str:
    """What a parameter changes: `results`, `looks` or `nothing`."""
    return FIELDS[name].json_schema_extra["affects"]


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, where YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        for at, (key, _) in enumerate(node.value):
            if key.value in [earlier.value for earlier, _ in node.value[:at]]:
                raise yaml.MarkedYAMLError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


def value_of(text: str | bytes, where: str) -> Any:
    """A YAML text as Python values; raises StudyError, beginning with `where`, if it is broken."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        line = f":{error.problem_mark.line + 1}" if getattr(error, "problem_mark", None) else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise StudyError(f"{where}{line}: this is not readable YAML: {problem}") from None


def parsed(overrides: dict[str, str]) -> dict[str, Any]:
    """The values of `-p NAME VALUE` words, which are YAML; raises StudyError for what is none."""
    return {name: value_of(text, f"-p {name}") for name, text in overrides.items()}


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in (ROOT / "params").glob("*.yml")))
        raise StudyError(f"{path}: there is no such file; the studies in params/ are: {known}")
    if not isinstance(values := value_of(path.read_bytes(), str(path)), dict):
        raise StudyError(f"{path}: a study file holds lines such as 'seed: 0', and this one holds none")
    return values


def load(*files: Path | str, overrides: dict[str, Any] | None = None) -> Study:
    """The study of one or more files, of which later ones win, and of `-p` overrides, which win over all.

    The first file names every parameter; whatever changes results brings its own study name. A relative
    `data_root` among the overrides starts at the current folder. Raises StudyError.
    """
    layers = [(str(file), _read(Path(file))) for file in files]
    layers += [("-p", overrides | _folders(overrides))] if overrides else []
    values, origin, study = {}, {}, None
    for where, layer in layers:
        values, origin = values | layer, origin | dict.fromkeys(layer, where)
        before, study = study, _validate(values, list(FIELDS), origin, where)
        changed = [n for n in FIELDS if before and affects(n) == "results"
                   and getattr(before, n) != getattr(study, n)]
        if changed and before.study == study.study:
            name = changed[0]
            raise StudyError(f"{origin[name]}: {name} {values[name]} changes the results of {study.study}; "
                             "give the variant a study name of its own (-p study NAME)")
    return study


def _folders(overrides: dict[str, Any]) -> dict[str, str]:
    """The folders among the overrides as absolute paths, since notebooks run in the repository root."""
    root, model = overrides.get("data_root"), overrides.get("base_model")
    if root not in (None, "world", "hub") and not Path(str(root)).is_dir():
        raise StudyError(f"-p: data_root is {root}, which is no folder; allowed are world, hub and a folder")
    paths = {"data_root": root, "base_model": model}
    return {n: str(Path(path).resolve()) for n, path in paths.items() if path and Path(str(path)).is_dir()}


def _validate(values: dict, names: list[str], origin: dict[str, str], where: str) -> Any:
    """A frozen object with the names; raises StudyError: unknown names first, wrong values, missing names."""
    if unknown := [str(name) for name in values if name not in FIELDS]:
        near = difflib.get_close_matches(unknown[0], FIELDS, 1)
        hint = f"did you mean {near[0]}?" if near else "params/tiny.yml lists all names"
        raise StudyError(f"{origin.get(unknown[0], where)}: there is no parameter {unknown[0]}; {hint}")
    fields = {n: (FIELDS[n].annotation, FIELDS[n]) for n in names}
    try:
        checked = create_model("Parameters", __config__=Study.model_config, **fields)(**values)
    except ValidationError as error:
        faults = {fault["loc"][0]: fault for fault in error.errors()}
        wrong = [f"{origin[n]}: {n} is {fault['input']!r} ({FIELDS[n].description}): {fault['msg']}"
                 for n, fault in faults.items() if n in values]
        lacks = f"{where}: a study file names every parameter, and this one lacks {', '.join(faults)}"
        raise StudyError("; ".join(wrong) or lacks) from None
    if fault := _contradiction(checked.model_dump()):
        raise StudyError(f"{where}: {fault}")
    return checked


def _contradiction(values: dict[str, Any]) -> str | None:
    """The first rule that does not hold; one about a name that a notebook does not declare is left out."""
    for rule, holds, relation in RULES:
        names = rule.split()
        if set(names) <= values.keys() and not holds(*(values[n] for n in names)):
            first, *second = [f"{name} {values[name]}" for name in names[:2]]
            return " ".join([first, relation, *second])
    return None


USMLE = {"usmle_step1", "usmle_step2", "usmle_step3"}
RULES = (  # parameters, what holds between their values, how the error puts it; the second is named too
    ("study", lambda name: name != "reference", "is the folder of the committed results; choose another"),
    ("base_hidden_size base_heads", lambda width, heads: width % (2 * heads) == 0, "is no even multiple of"),
    ("base_heads base_kv_heads", lambda heads, shared: heads % shared == 0, "is no multiple of"),
    ("base_context base_length", lambda context, length: context >= length, "is less than"),
    ("base_context data_max_length base_model", lambda n, rows, model: model or n >= rows, "is less than"),
    ("base_text base_model", lambda text, model: text or model, "names no source to pretrain on, with"),
    ("train_stages", lambda stages: re.fullmatch("c?s?d*", "".join(kind[0] for kind in stages)),
     "is not in the order cpt, sft, dpo, of which only dpo may be repeated"),
    ("train_stages cpt_sources", lambda kinds, names: "cpt" not in kinds or names,
     "has a stage cpt, and there is nothing in"),
    ("train_stages dpo_sources", lambda kinds, names: "dpo" not in kinds or names,
     "has a stage dpo, and there is nothing in"),
    ("dpo_rounds train_stages", lambda of, kinds: max(of.values(), default=0) <= kinds.count("dpo"), "goes beyond"),
    ("sft_batch_size train_micro_batch_size", lambda batch, micro: batch % micro == 0, "is no multiple of"),
    ("eval_protocols eval_primary_protocol", lambda asked, primary: primary in asked, "lacks"),
    ("eval_shots eval_primary_shots", lambda asked, primary: primary in asked, "lacks"),
    ("eval_benchmarks eval_primary_benchmarks", lambda asked, primary: all(
        name in asked or (name == "usmle" and USMLE <= set(asked)) for name in primary), "lacks some of"),
    ("eval_benchmarks study", lambda asked, study: set(asked) <= {"medqa_4_dev", "pubmedqa_dev"}
     or not study.removeprefix(REHEARSAL).startswith("grid"),
     "holds test items, on which no grid may choose; give only medqa_4_dev and pubmedqa_dev to"),
    ("figures_studies", lambda others: not any(map(rehearsal, others)),
     "names a rehearsal, whose numbers mean nothing; take it out"),
    ("figures_studies study", lambda others, study: study not in others, "contains"),
)


def assigned(source: str) -> dict[str, Any]:
    """Names that a cell assigns at top level, with their values (None unless these are constants)."""
    try:
        nodes = [n for n in ast.parse(source).body if isinstance(n, ast.Assign | ast.AnnAssign)]
    except SyntaxError:  # a cell with a magic
        return {}
    pairs = [(t, n.value) for n in nodes for t in getattr(n, "targets", None) or [n.target]]
    return {t.id: getattr(value, "value", None) for t, value in pairs if isinstance(t, ast.Name)}


def check(scope: dict[str, Any]) -> Any:
    """A notebook's parameters, checked and frozen; its second code cell calls this with globals().

    Raises StudyError for a wrong value, an unknown injected name, and another study injected only in part.
    """
    cells = [cell for cell in scope.get("In", ()) if cell]
    injected = next((assigned(cell) for cell in reversed(cells) if cell.startswith("# Parameters")), {})
    own = {n: v for cell in cells if not cell.startswith("# Parameters") for n, v in assigned(cell).items()}
    declared = [n for n in FIELDS if n in scope and n in (own or scope)]
    lacking = [n for n in declared if n not in injected]
    if lacking and injected.get("study", own.get("study")) != own.get("study"):
        raise StudyError(f"study {injected['study']} came without {', '.join(lacking)}; give papermill the "
                         f"whole study file (-f params/{injected['study']}.yml), or tiny values slip in")
    values = {n: scope[n] for n in declared} | {n: v for n, v in injected.items() if n not in FIELDS}
    return _validate(values, declared, dict.fromkeys(values, "notebook"), "notebook")
