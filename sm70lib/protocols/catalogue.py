"""All protocols by name. A score means something only together with its protocol."""

from sm70lib.protocols.harness import HARNESS, MED42
from sm70lib.protocols.meditron import MEDITRON
from sm70lib.protocols.ours import OURS
from sm70lib.protocols.protocol import Protocol
from sm70lib.protocols.sm70 import SM70
from sm70lib.study.params import StudyError

PROTOCOLS = (*SM70, *HARNESS, *MEDITRON, *MED42, *OURS)


def named(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        StudyError: no protocol has that name.
    """
    known = {protocol.name: protocol for protocol in PROTOCOLS}
    if name not in known:
        choices = ", ".join(known)
        raise StudyError(f"eval_protocols: there is no protocol {name!r}; choose from {choices}")
    return known[name]
