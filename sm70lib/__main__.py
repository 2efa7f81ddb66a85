"""Command line: `python -m sm70lib run params/tiny.yml`, `plan ...`, `rehearse ...`, `report tiny`."""

import argparse
import sys

from sm70lib import runner
from sm70lib.rehearsal import rehearsal, variants
from sm70lib.study import steps
from sm70lib.study.fields import Study
from sm70lib.study.params import StudyError, load, parsed


def main(words: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 a notebook failed, 2 something given is wrong (one sentence on stderr)."""
    given = _parser().parse_args(words)
    try:
        if given.command == "run":
            return runner.run(
                given.files,
                dict(given.p),
                given.fresh,
                given.list,
                lender=given.lender,
                until=given.until,
            )
        if given.command == "plan":
            study = load(*given.files, overrides=parsed(dict(given.p)))
            return _plan(study, given.gb, given.before)
        if given.command == "rehearse":
            return rehearsal.rehearse(given.files, dict(given.p), given.resume, given.fresh_kernels)
        if given.command == "overlays":
            return variants.first_steps(variants.overlays())
        return _report(given.study)
    except (StudyError, OSError) as error:  # an OSError is e.g. a full disk, and names the file
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, StudyError) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sm70lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    needs = commands.add_parser("plan", help="say what every step of a study needs; load nothing")
    study = commands.add_parser("run", help="run the unfinished steps of a study")
    short = commands.add_parser(
        "rehearse", help="run a study whole with stand-in models and a few rows"
    )
    for command in (needs, study, short):
        command.add_argument(
            "files", nargs="+", metavar="FILE", help="params/<study>.yml, then overlays"
        )
        command.add_argument(
            "-p",
            nargs=2,
            action="append",
            default=[],
            metavar=("NAME", "VALUE"),
            help="override; what changes results needs `-p study NAME` too",
        )
    needs.add_argument(
        "--gb",
        type=float,
        action="append",
        default=[],
        metavar="SIZE",
        help="for a card of so many GB, not this machine; may be repeated",
    )
    needs.add_argument(
        "--before",
        action="append",
        default=[],
        metavar="STEP",
        help="only what does not fit here, in short, before these steps run",
    )
    short.add_argument("--resume", action="store_true", help="go on with an earlier rehearsal")
    short.add_argument(
        "--fresh-kernels", action="store_true", help="a kernel for each notebook, as `run` has"
    )
    commands.add_parser(
        "overlays", help="take every overlay of params/overlays to its first training step"
    )
    study.add_argument(
        "--fresh", action="append", default=[], metavar="STEP", help="redo a step, e.g. 03"
    )
    study.add_argument("--until", metavar="STEP", help="stop after this step, e.g. 04")
    study.add_argument(
        "--from",
        dest="lender",
        metavar="STUDY",
        help="take over each step and stage of STUDY that this one would make alike",
    )
    study.add_argument(
        "--list", action="store_true", help="show what would run, and why; run nothing"
    )
    report = commands.add_parser("report", help="render the report of a study")
    report.add_argument("study", metavar="STUDY")
    return parser


def _plan(study: Study, sizes: list[float], before: list[str]) -> int:
    from sm70lib.planning import forecast  # slow to import, and `run` needs none of it

    lines = forecast.short(study, before) if before else [forecast.text(study, sizes)]
    print("".join(f"{line}\n" for line in lines), end="")
    return 0


def _report(study: str) -> int:
    known = sorted(path.parent.name for path in steps.outputs().glob("*/manifest.json"))
    if study not in known:
        raise StudyError(
            f"study {study} has no results; these have: {', '.join(known) or 'none yet'}"
        )
    from sm70lib import report  # slow to import, and `run` needs none of it

    print(report.build(study))
    return 0


if __name__ == "__main__":
    sys.exit(main())
