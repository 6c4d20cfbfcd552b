"""What a command prints: on the first rank alone, to a terminal, a file, or a pipe whose reader may leave."""

import logging
import os
import sys

INTERRUPTED = 130  # the exit code after Ctrl-C or SIGTERM


class LogHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Log lines to a terminal or a pipe; a reader that leaves, as `| head` does, ends the lines, not the command."""

    def handleError(self, record: logging.LogRecord) -> None:
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            _drop_output()
        else:
            super().handleError(record)


def is_first_rank() -> bool:
    """True in the process that prints: the only one, or the first that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def say(*lines: str) -> None:
    """Print on the first rank alone."""
    if is_first_rank():
        try:
            print(*lines, sep="\n", flush=True)
        except BrokenPipeError:
            _drop_output()


def _drop_output() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
