"""All protocols by name. A score means something only together with its protocol.

To add a protocol, write a file with its Protocol, and add one line to protocols.csv.
"""

from sm70lib.protocols.protocol import Protocol
from sm70lib.study.catalogues import objects
from sm70lib.study.params import StudyError

TABLE = "protocols/protocols.csv"


def _protocols() -> dict[str, Protocol]:
    found = objects(TABLE)
    for name, protocol in found.items():
        if protocol.name != name:
            raise StudyError(
                f"{TABLE}, line {name}: its protocol is named {protocol.name!r}; "
                "give both the same name."
            )
    return found


_BY_NAME = _protocols()
PROTOCOLS = tuple(_BY_NAME.values())


def named(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        StudyError: no protocol has that name.
    """
    if name not in _BY_NAME:
        choices = ", ".join(_BY_NAME)
        raise StudyError(f"eval_protocols: there is no protocol {name!r}; choose from {choices}")
    return _BY_NAME[name]
