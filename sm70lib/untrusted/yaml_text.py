"""Safe YAML within bounds, in which a number is what a person reads."""

import codecs
import re
from typing import Any

import yaml

LARGEST = 1_000_000  # bytes of a text; the largest study file has 12,000
MOST_VALUES = 5_000  # with every alias written out; the longest file of this library has 2,000
LONGEST = 10_000  # characters of one text
DEEPEST = 20  # lists and mappings inside each other
DIGITS = 18  # of a whole number: what 64 bits hold
PLAIN = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
DIRECTIVE = re.compile(r"(?m)^[\r\x85\u2028\u2029]*%TAG")  # libyaml takes seconds over many

# What PyYAML raises; the last four of values with a wrong tag, such as !!bool maybe.
UNREADABLE = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError)

# libyaml reads a study file in a tenth of the time; some builds of PyYAML lack it.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):
    """Safe YAML that refuses what YAML itself would silently read as something else."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        earlier = set()
        for key, _ in node.value:
            if str(key.value) in earlier:  # YAML would keep the last one
                raise _refused(f"{str(key.value):.80} is given twice", key.start_mark)
            earlier.add(str(key.value))
        return super().construct_mapping(node, deep)

    def whole_number(self, node: yaml.ScalarNode) -> int:
        """Refuses 016, which YAML reads as 14, 1:30, which it reads as 90, and 0x10."""
        if len(node.value) > DIGITS:
            raise _refused(f"{node.value:.80} has more than {DIGITS} digits", node.start_mark)
        number = super().construct_yaml_int(node)
        if PLAIN.fullmatch(node.value) is None:
            raise _misread(node, number)
        return number

    def number(self, node: yaml.ScalarNode) -> float:
        """Refuses 1:30.5, which YAML reads as 90.5."""
        number = super().construct_yaml_float(node)
        if ":" in node.value:
            raise _misread(node, number)
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.whole_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.number)


def _misread(node: yaml.ScalarNode, number: float) -> yaml.MarkedYAMLError:
    return _refused(
        f"YAML would read {node.value:.80} as {number}; write a number with the digits 0 to 9 and "
        "no 0 in front, or put a text in quotes",
        node.start_mark,
    )


def _refused(problem: str, mark: yaml.Mark | None) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def load(text: str | bytes) -> tuple[Any, dict[str, int]]:
    """Reads a YAML text; its size is bounded before anything is made of it.

    Args:
        text: The text. An alias counts as all that it stands for.

    Returns:
        The value, as Python objects, and the line (from 1) of each key of the outermost mapping.

    Raises:
        yaml.YAMLError: The text is no safe YAML, is too large, or repeats a key.
        UNREADABLE: It is in no Unicode, or a value cannot be made, such as the 31st of February.
    """
    if len(text) > LARGEST:
        raise _refused(f"it has {len(text):,} bytes, and at most {LARGEST:,} are read", None)
    if isinstance(text, bytes):
        utf_16 = text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = text.decode("utf-16" if utf_16 else "utf-8-sig")
    if DIRECTIVE.search(text):
        raise _refused("it has a line %TAG, which is not read", None)
    lines = _lines(text)
    return yaml.load(text, _Loader), lines


def _lines(text: str) -> dict[str, int]:
    """The line of each outermost key; raises YAMLError where the text goes beyond the bounds."""
    lines: dict[str, int] = {}
    sizes: dict[str, int] = {}  # values behind each anchor, aliases written out
    opened: list[tuple[str | None, int]] = []  # anchors of open lists and mappings, values before
    count = direct = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            sizes |= {anchor: count - before} if anchor else {}
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        if len(opened) == 1:
            if direct % 2 == 0 and isinstance(event, yaml.ScalarEvent):
                lines[event.value] = event.start_mark.line + 1
            direct += 1
        count += _size(event, sizes)
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > LONGEST:
            problem = (
                f"a text has {len(event.value):,} characters, and at most {LONGEST:,} are read"
            )
            raise _refused(problem, event.start_mark)
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, count - 1))
        elif isinstance(event, yaml.ScalarEvent) and event.anchor:
            sizes[event.anchor] = 1
        if count > MOST_VALUES:
            raise _refused(f"there are more than {MOST_VALUES:,} values", event.start_mark)
        if len(opened) > DEEPEST:
            raise _refused(f"more than {DEEPEST} brackets are open", event.start_mark)
    return lines


def _size(event: yaml.NodeEvent, sizes: dict[str, int]) -> int:
    if not isinstance(event, yaml.AliasEvent):
        return 1
    if event.anchor not in sizes:
        raise _refused(f"*{event.anchor:.80} stands for nothing above it", event.start_mark)
    return sizes[event.anchor]
