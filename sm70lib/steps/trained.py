"""What training has left: the adapter or the model of each stage."""

from pathlib import Path
from typing import Any

from sm70lib.study.params import StudyError
from sm70lib.study.used import trained, trains_all


def left_by(stage: Path) -> Path | None:
    """The adapter or the model that a stage has left; None if there is none yet."""
    found = [stage / name for name in ("adapter", "model") if (stage / name).is_dir()]
    return found[0] if found else None


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


def results(p: Any) -> list[str]:
    """What 03 leaves of its stages: patterns below the study's folder."""
    everywhere = f"stages/*/{trained(p)}"
    return [everywhere] if trains_all(p) else ["adapter", everywhere]
