"""What training has left: the adapter or the model of each stage."""

import json
from pathlib import Path
from typing import Any

from sm70lib.records import damage
from sm70lib.steps.keys import TUNING, mark, read
from sm70lib.study import files
from sm70lib.study.params import StudyError
from sm70lib.study.used import trained, trains_all

LOGGED = (
    "loss",
    "eval_loss",
    "learning_rate",
    "grad_norm",
    "num_tokens",
    "rewards/margins",
    "rewards/accuracies",
    "eval_rewards/margins",
    "eval_rewards/accuracies",
)
LEFT = "left"  # in the mark of a stage: the record of what it has left


def left_by(stage: Path) -> Path | None:
    """The adapter or the model that a stage has left; None if there is none yet."""
    found = [stage / name for name in ("adapter", "model") if (stage / name).is_dir()]
    return found[0] if found else None


def finished(stage: Path) -> bool:
    """Whether what a stage leaves is in place, as its mark says.

    A mark of an earlier version does not say what was left; the mark of 03 does, and is compared
    when 03 begins.
    """
    done, left = read(stage / "done.json"), left_by(stage)
    if not done or left is None:
        return False
    return LEFT not in done or files.holds(left, done[LEFT])


def mend(folder: Path, stage: Path) -> None:
    """Puts aside what a stage has left if it is not so any more, and restores lost metrics.

    All that it has left is read.

    Args:
        folder: outputs/<study>.
        stage: The stage's folder.
    """
    recorded, left = read(stage / "done.json").get(LEFT), left_by(stage)
    if recorded and left and files.changed(left, recorded, thorough=True):
        then = "the stage goes on from its last checkpoint"
        damage.set_aside(folder, TUNING, [left], then)
    restore_metrics(stage)


def checkpoints_of(stage: Path) -> list[Path]:
    """The checkpoints of a stage, the newest first; folders of other names are left out."""
    found = [path for path in stage.glob("checkpoint-*") if path.is_dir()]
    named = [path for path in found if path.name.removeprefix("checkpoint-").isdecimal()]
    return sorted(named, key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The training step of a checkpoint."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def restore_metrics(stage: Path) -> None:
    """Writes lost metrics again, from what the newest readable checkpoint has logged.

    The times of the steps are not in it.
    """
    if (stage / "metrics.jsonl").exists():
        return
    for checkpoint in checkpoints_of(stage):
        rows = read(checkpoint / "trainer_state.json").get("log_history", [])
        kept = [{name: row[name] for name in ("step", *LOGGED) if name in row} for row in rows]
        lines = [json.dumps(row) + "\n" for row in kept if row.keys() & {"loss", "eval_loss"}]
        if lines:
            files.write_text(stage / "metrics.jsonl", "".join(lines))
            print(f"metrics of {stage.name} are restored from {checkpoint.name}", flush=True)
            return


def of_stages(folder: Path, name: str) -> list[Path]:
    """What all stages of a study have left, in their order; that of other seeds comes last.

    Args:
        folder: outputs/<study>.
        name: `adapter` or `model`.
    """

    def order(path: Path) -> tuple[bool, int, str]:
        stage = path.parent.name
        return of_other_seed(path), int(stage.partition("-")[0]), stage

    return sorted(folder.glob(f"stages/*/{name}"), key=order)


def last(p: Any, folder: Path) -> Path:
    """The study's trained adapter, or the model that the last stage of its first seed has left.

    Raises:
        StudyError: There is no such model yet.
    """
    if not trains_all(p):
        return folder / "adapter"
    models = [path for path in of_stages(folder, "model") if not of_other_seed(path)]
    if not models:
        raise StudyError(f"no stage of study {folder.name} has left a model: run 03 first")
    return models[-1]


def of_other_seed(path: Path) -> bool:
    """Whether a stage's adapter or model was trained with another seed than the first."""
    return "-seed" in path.parent.name


def recorded(model: str, folder: Path) -> str | None:
    """The digest of the weights of a study's own model, as 00 or 03 has recorded it.

    Args:
        model: What tables call the model, such as `base-nf4`, `tuned-1-sft` or `merged-original`.
        folder: outputs/<study>.

    Returns:
        SHA-256 (hex); None if there is no record of such a model.
    """
    kind, _, which = model.partition("-")
    last_models = [path for path in of_stages(folder, "model") if not of_other_seed(path)][-1:]
    places = {
        "base": ["base/model", "base/base.json"],
        "merged": [f"merged/{which}"],
        "tuned": [f"stages/{which}/adapter", f"stages/{which}/model"],
    }
    if model == "tuned":
        ends = [path.relative_to(folder).as_posix() for path in last_models]
        places["tuned"] = ["adapter", *ends]
    outputs = mark(folder, "00_base").get("outputs", {}) | mark(folder, TUNING).get("outputs", {})
    found = [outputs[place]["sha256"] for place in places.get(kind, ()) if place in outputs]
    return found[0] if found else None


def results(p: Any) -> list[str]:
    """What 03 leaves of its stages: patterns below the study's folder."""
    everywhere = f"stages/*/{trained(p)}"
    return [everywhere] if trains_all(p) else ["adapter", everywhere]
