"""What a user can cause and can fix, as a tree.

    SegkitError
    ├── ConfigError            a key, a value or a combination of them
    ├── DataError              a file or folder of the data set
    ├── WeightsError           pretrained weights that are unavailable or don't fit
    ├── CheckpointError        a checkpoint that can't be read, or is for other classes or another program
    ├── RunFolderError         the folder a run writes to: in use, missing or not writable
    ├── DeviceError            a device, precision or process group that is unavailable
    ├── ExportError            an exported model that doesn't do what PyTorch does
    └── TrainingDiverged       a non-finite loss

The command line prints them as `error: ...` without a traceback and exits with 2. Every message reads
"where: what was found, what was expected; remedy". Any other exception is a bug in segkit. Below the tree: how messages
count and list things.
"""

from collections.abc import Iterable, Sequence


class SegkitError(Exception):
    """A problem that the user can fix; the message says how.

    `shared` is true once every rank of a distributed run has raised it; then only the first rank prints it.
    """

    shared = False


class ConfigError(SegkitError):
    """A config holds an unknown key, a wrong value, or settings that contradict each other."""


class DataError(SegkitError):
    """A file or folder of the data set is missing, broken or not what the config says."""


class WeightsError(SegkitError):
    """Pretrained weights are unavailable, or don't fit the model."""


class CheckpointError(SegkitError):
    """A checkpoint can't be read, or is for other classes or another program."""


class RunFolderError(SegkitError):
    """The folder of a run is in use, missing or not writable."""


class DeviceError(SegkitError):
    """A device, a precision or a process group that was asked for is unavailable."""


class ExportError(SegkitError):
    """An exported model doesn't do what PyTorch does, so that it wasn't kept."""


class TrainingDiverged(SegkitError):
    """The loss became non-finite."""


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error, at most 160 characters; the error's type if it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def summarize(problems: Sequence[str], *, shown: int = 10) -> str:
    """Join problems, a line each, into one message: the first `shown`, and how many more there are."""
    lines = list(problems[:shown])
    if len(problems) > shown:
        lines.append(f"... and {len(problems) - shown} more ({len(problems)} in total)")
    return "\n".join(lines)


def count(number: int, noun: str) -> str:
    """Return '1 image', '2 images'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(things: Iterable[object], *, shown: int = 10) -> str:
    """Return 'a, b, c and 5 more': the first `shown`, and how many more there are."""
    words = [str(thing) for thing in things]
    return ", ".join(words[:shown]) + (f" and {len(words) - shown} more" if len(words) > shown else "")
