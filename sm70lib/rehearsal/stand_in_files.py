"""The models and data that a rehearsed study will look for, written before its first step."""

from __future__ import annotations

from pathlib import Path

# The kernel of a rehearsal writes them, because it has to import PyTorch anyway.
CODE = """
from pathlib import Path
from types import SimpleNamespace

from sm70lib.rehearsal import stand_in_files

stand_in_files.write(SimpleNamespace(**{values!r}), Path({folder!r}))
"""


def code(p, folder: Path) -> str:
    """Lines of Python that do what `write` does."""
    return CODE.format(values=p.model_dump(), folder=str(folder))


def write(p, folder: Path) -> None:
    """Writes the models and data that a study will look for, and prints their names.

    Args:
        p: the study as its file has it.
        folder: the rehearsal's, which is served by `local_hub`.
    """
    from sm70lib.standins import place

    served = folder / "served"
    local = folder / ("hub" if p.data_root == "hub" else "data-root")
    texts = place.data(p, served, local)
    names = place.stand_in_models(p, texts, served)
    listed = ", ".join(names) or "no model"
    print(f"stand-ins for {listed}; {len(texts):,} texts as data", flush=True)


def data_root(p, folder: Path) -> dict[str, str]:
    """`data_root` with its new value if the study reads from a folder of files, else nothing."""
    if p.data_root in ("world", "hub"):
        return {}
    return {"data_root": str(folder / "data-root")}
