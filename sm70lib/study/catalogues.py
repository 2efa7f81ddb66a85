"""What the lines of a catalogue name: objects of the modules beside the table."""

from importlib import import_module
from pathlib import PurePosixPath
from typing import Any

from sm70lib.parameters.tables import lines
from sm70lib.study.params import StudyError


def objects(table: str) -> dict[str, Any]:
    """Imports the object of every line of a catalogue.

    Args:
        table: its path below the library's folder. Its column `object` has e.g. `medqa:FOUR`: the
            object FOUR of the module medqa.py beside the table.

    Returns:
        The objects by the lines' names, in the order of the table.

    Raises:
        StudyError: two lines have one name, or a line names no module or no object of it.
    """
    wing = PurePosixPath(table).parent.name
    found: dict[str, Any] = {}
    for line in lines(table):
        name = line["name"]
        if name in found:
            raise StudyError(f"{table}: two lines are named {name}; rename or remove one.")
        module, _, attribute = line["object"].partition(":")
        try:
            found[name] = getattr(import_module(f"sm70lib.{wing}.{module}"), attribute)
        except (ModuleNotFoundError, AttributeError) as error:
            raise StudyError(
                f"{table}, line {name}: object is {line['object']!r}, but {error}; "
                "give a module beside the table and an object of it, as in module:OBJECT."
            ) from error
    return found
