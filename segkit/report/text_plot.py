"""A curve in a terminal, in ASCII, so that it survives pipes, logs and old encodings."""

import math
import shutil
from collections.abc import Sequence

NARROWEST, WIDEST = 24, 100  # columns
HEIGHT = 10  # rows of the plot itself


def terminal_width() -> int:
    """Return how many columns a plot may take: those of the terminal, or 80 in a pipe, between 24 and 100."""
    return min(WIDEST, max(NARROWEST, shutil.get_terminal_size((80, 24)).columns - 1))


def text_plot(
    xs: Sequence[float], ys: Sequence[float], *, width: int, x_name: str, from_zero: bool = True, log_x: bool = False
) -> str:
    """Return lines of at most `width` characters that show y over x, xs rising, all of them finite.

    A column shows the whole range of the values that fall into it, so that no peak is lost. The y axis begins at 0, or
    at the smallest value; with `log_x` equal factors of x are equally wide.
    """
    low, high = 0.0 if from_zero else min(ys), max(ys)
    high = high if high > low else low + 1
    labels = {HEIGHT - 1: f"{high:.3g}", HEIGHT // 2: f"{low + (high - low) * (HEIGHT // 2) / (HEIGHT - 1):.3g}"}
    labels[0] = f"{low:.3g}"
    margin = max(map(len, labels.values()))
    columns = max(8, width - margin - 2)
    along = [math.log(x) for x in xs] if log_x else list(xs)
    span = along[-1] - along[0] or 1.0

    cells = [[" "] * columns for _ in range(HEIGHT)]
    last_column, last_row = 0, round((ys[0] - low) / (high - low) * (HEIGHT - 1))
    for x, y in zip(along, ys, strict=True):
        column = min(columns - 1, int((x - along[0]) / span * columns))
        row = round((y - low) / (high - low) * (HEIGHT - 1))
        for between in range(last_column + 1, column):  # fewer points than columns: a straight line
            part = (between - last_column) / (column - last_column)
            cells[round(last_row + (row - last_row) * part)][between] = "*"
        if column == last_column:
            for between in range(min(row, last_row), max(row, last_row) + 1):
                cells[between][column] = "*"
        cells[row][column] = "*"
        last_column, last_row = column, row

    lines = [f"{labels.get(row, ''):>{margin}} |{''.join(cells[row]).rstrip()}" for row in reversed(range(HEIGHT))]
    left, right = f"{xs[0]:.3g}", f"{xs[-1]:.3g}"
    gap = columns - len(left) - len(right)
    name = x_name if len(x_name) + 2 <= gap else ""
    lines.append(f"{'':>{margin}} +{'-' * columns}")
    lines.append(f"{'':>{margin}}  {left}{name:^{max(1, gap)}}{right}")
    return "\n".join(lines)
