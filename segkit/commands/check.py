"""Look at every file of a data set and say what is wrong with it."""

import argparse
from pathlib import Path

from segkit.commands.output import say
from segkit.errors import SegkitError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="CONFIG|FOLDER", help="config of a run, or a data set's folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, as in data.root=DIR")
    parser.add_argument("--fix", type=Path, metavar="OUT", help="write a repaired copy (VOC layout) to an empty folder")
    parser.add_argument("--resize", action="store_true", help="with --fix: make labels of another size equal")
    parser.add_argument("--html", type=Path, default=Path("check.html"), help="page to write (default: %(default)s)")
    parser.add_argument("--augment", action="store_true", help="show one image as training sees it, 16 times")


def run(arguments: argparse.Namespace) -> int:
    from segkit.doctor.check import check, refuse_page, write_page
    from segkit.doctor.text import describe_examined, describe_finding, describe_outcome

    if arguments.resize and arguments.fix is None:
        raise SegkitError("--resize: without effect: it needs --fix OUT")
    refuse_page(arguments.html)
    if arguments.fix is not None:
        from segkit.formats.writing import refuse_unless_empty

        refuse_unless_empty(arguments.fix)
    checked = check(arguments.source, arguments.overrides)
    say(describe_examined(checked.examined))
    for finding in checked.findings:
        say("", describe_finding(finding))
    write_page(checked, arguments.html, augment=arguments.augment)
    say("", f"{describe_outcome(checked.findings)}; with images: {arguments.html}")
    if arguments.fix is not None:
        from segkit.doctor.fix import describe_fixed, fix

        say(describe_fixed(fix(checked.examined, arguments.fix, resize=arguments.resize)))
    return checked.exit_code
