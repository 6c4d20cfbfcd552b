"""What a user can cause and can mend, drawn as a tree.

    SegkitError
    ├── ConfigError            a key, a value or a combination of them
    ├── DataError              a file or folder of the data set
    ├── WeightsError           pretrained weights that can't be had or don't fit
    ├── CheckpointError        a checkpoint that can't be read or doesn't belong
    ├── RunFolderError         the folder a run writes to: taken, missing or full
    ├── DeviceError            a device, precision or process group that isn't there
    └── TrainingDiverged       a loss that is no number

The command line prints them as `error: ...` without a traceback and exits with 2. Every message reads
"where: what was found, what was expected; remedy". Anything else that is raised is a bug in segkit.
"""

from collections.abc import Iterable, Sequence


class SegkitError(Exception):
    """A problem that the user can mend; the message says how.

    `shared` is true once every rank of a distributed run has it; then the first rank alone prints it.
    """

    shared = False


class ConfigError(SegkitError):
    """A config holds an unknown key, a wrong value, or settings that contradict each other."""


class DataError(SegkitError):
    """A file or folder of the data set is missing, broken or not what the config says."""


class WeightsError(SegkitError):
    """Pretrained weights can't be had, or don't fit the model."""


class CheckpointError(SegkitError):
    """A checkpoint can't be read, or belongs to other classes or another program."""


class RunFolderError(SegkitError):
    """The folder of a run is taken, missing or can't be written to."""


class DeviceError(SegkitError):
    """A device, a precision or a process group that was asked for isn't there."""


class TrainingDiverged(SegkitError):
    """The loss is no longer a finite number."""


def first_line(error: BaseException) -> str:
    """Return what an error of a library says, cut to its first line; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def summarize(problems: Sequence[str], *, shown: int = 10) -> str:
    """Join many problems into one message: the first `shown`, a line each, and how many more there are."""
    lines = list(problems[:shown])
    if len(problems) > shown:
        lines.append(f"... and {len(problems) - shown} more ({len(problems)} in total)")
    return "\n".join(lines)


def count(number: int, noun: str) -> str:
    """Return '1 picture', '2 pictures'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(things: Iterable[object], *, shown: int = 10) -> str:
    """Return 'a, b, c and 5 more': the first `shown`, and how many more there are."""
    words = [str(thing) for thing in things]
    return ", ".join(words[:shown]) + (f" and {len(words) - shown} more" if len(words) > shown else "")
