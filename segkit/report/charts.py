"""Charts as SVG, drawn for any theme: text and axes take the page's colours, lines those of a palette.

The palette is Okabe and Ito's (2008, "Color Universal Design"), which colour-blind readers tell apart; more than seven
lines also differ in their dashes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
DASHES = ("", "6 3", "2 3", "8 3 2 3")
SIZE_HW = (230, 420)
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 36


@dataclass(frozen=True)
class Line:
    """A named line through points (x, y)."""

    name: str
    points: Sequence[tuple[float, float]]


def style_of(number: int) -> tuple[str, str]:
    """Return colour and dashes of the line of a number; they repeat after 28 lines."""
    return PALETTE[number % len(PALETTE)], DASHES[number // len(PALETTE) % len(DASHES)]


def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    diagonal: bool = False,
) -> str:
    """Return a chart of lines; ranges are those of the points unless given. `diagonal` draws y = x."""
    points = [point for line in lines for point in line.points if all(map(math.isfinite, point))]
    axes = _Axes(x_range or _range([x for x, _ in points]), y_range or _range([y for _, y in points]), x_label, y_label)
    parts = [axes.drawn()]
    if diagonal:
        (x0, x1), (y0, y1) = axes.x_range, axes.y_range
        low, high = max(x0, y0), min(x1, y1)
        parts.append(f'<path class="diagonal" d="M{axes.x(low)} {axes.y(low)}L{axes.x(high)} {axes.y(high)}"/>')
    for number, line in enumerate(lines):
        color, dashes = style_of(number)
        path = "L".join(f"{axes.x(x)} {axes.y(y)}" for x, y in line.points if math.isfinite(x) and math.isfinite(y))
        if path:
            parts.append(
                f'<path class="line" data-name="{escape(line.name)}" d="M{path}" stroke="{color}" '
                f'stroke-dasharray="{dashes}"><title>{escape(line.name)}</title></path>'
            )
    return _svg(parts, f"{y_label} over {x_label}: {', '.join(line.name for line in lines)}")


def bar_chart(bars: Sequence[tuple[float, float, float]], *, x_label: str, y_label: str, diagonal: bool = False) -> str:
    """Return a histogram of bars (from, to, height) along an axis of 0..1."""
    highest = 1.0 if diagonal else max((height for _, _, height in bars), default=1.0)
    axes = _Axes((0.0, 1.0), (0.0, highest or 1.0), x_label, y_label)
    parts = [axes.drawn()]
    for start, end, height in bars:
        left, width = axes.x(start), round(axes.x(end) - axes.x(start) - 1, 1)
        title = f"{start:.2f} to {end:.2f}: {height:.4g}"
        parts.append(
            f'<rect class="bar" x="{left}" y="{axes.y(height)}" width="{width}" '
            f'height="{round(axes.y(0) - axes.y(height), 1)}"><title>{title}</title></rect>'
        )
    if diagonal:
        parts.append(f'<path class="diagonal" d="M{axes.x(0)} {axes.y(0)}L{axes.x(1)} {axes.y(1)}"/>')
    return _svg(parts, f"{y_label} over {x_label}")


@dataclass(frozen=True)
class _Axes:
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_label: str
    y_label: str

    def x(self, value: float) -> float:
        low, high = self.x_range
        return round(LEFT + (SIZE_HW[1] - LEFT - RIGHT) * (value - low) / (high - low), 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return round(SIZE_HW[0] - BOTTOM - (SIZE_HW[0] - TOP - BOTTOM) * (value - low) / (high - low), 1)

    def drawn(self) -> str:
        height, width = SIZE_HW
        below = height - BOTTOM + 14
        parts = [
            f'<text x="{self.x(value)}" y="{below}" text-anchor="middle">{_number(value)}</text>'
            for value in _ticks(*self.x_range)
        ]
        for value in _ticks(*self.y_range):
            y = self.y(value)
            parts.append(f'<path class="grid" d="M{LEFT} {y}H{width - RIGHT}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{_number(value)}</text>')
        middle, centre = (TOP + height - BOTTOM) / 2, (LEFT + width) / 2
        parts.append(f'<text x="{centre}" y="{height - 4}" text-anchor="middle">{escape(self.x_label)}</text>')
        parts.append(
            f'<text x="11" y="{middle}" text-anchor="middle" transform="rotate(-90 11 {middle})">'
            f"{escape(self.y_label)}</text>"
        )
        return "".join(parts)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Return round numbers inside a range, at most `most`."""
    step = 10 ** math.floor(math.log10((high - low) / most))
    step = next(step * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (step * factor) <= most)
    return [round(k * step, 12) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    """Return a tick's label: 0.25, 2.5e-3."""
    if value == 0 or abs(value) >= 0.01:
        return f"{value:g}"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{float(digits):g}e{int(power)}"


def _svg(parts: Sequence[str], label: str) -> str:
    height, width = SIZE_HW
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )
