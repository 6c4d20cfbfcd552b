"""How messages say numbers and long lists."""

from collections.abc import Iterable


def count(number: int, noun: str) -> str:
    """Return '1 picture', '2 pictures'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(things: Iterable[object], *, shown: int = 10) -> str:
    """Return 'a, b, c and 5 more': the first `shown`, and how many more there are."""
    words = [str(thing) for thing in things]
    return ", ".join(words[:shown]) + (f" and {len(words) - shown} more" if len(words) > shown else "")
