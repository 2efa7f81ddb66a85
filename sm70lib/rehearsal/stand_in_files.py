"""The models and data that rehearsed studies will look for, written before the first step."""

from __future__ import annotations

from pathlib import Path

# The kernel of a rehearsal writes them, because it has to import PyTorch anyway.
CODE = """
from pathlib import Path
from types import SimpleNamespace

from sm70lib.rehearsal import stand_in_files

stand_in_files.write([SimpleNamespace(**values) for values in {studies!r}], Path({folder!r}))
"""


def code(studies, folder: Path) -> str:
    """Lines of Python that do what `write` does."""
    return CODE.format(studies=[p.model_dump() for p in studies], folder=str(folder))


def write(studies, folder: Path) -> None:
    """Writes the models and data that studies will look for, and prints the models' names.

    Args:
        studies: the studies as their files have them.
        folder: the rehearsal's, which is served by `local_hub`.
    """
    from sm70lib.standins import place

    served = folder / "served"
    texts: list[str] = []
    for p in studies:
        texts += place.data(p, served, folder / ("hub" if p.data_root == "hub" else "data-root"))
    names = place.stand_in_models(studies, list(dict.fromkeys(texts)), served)
    listed = ", ".join(names) or "no model"
    print(f"stand-ins for {listed}; {len(texts):,} texts as data", flush=True)


def data_root(p, folder: Path) -> dict[str, str]:
    """`data_root` with its new value if the study reads from a folder of files, else nothing."""
    if p.data_root in ("world", "hub"):
        return {}
    return {"data_root": str(folder / "data-root")}
