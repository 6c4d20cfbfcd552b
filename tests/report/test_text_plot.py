import math

import pytest

from segkit.report.text_plot import HEIGHT, NARROWEST, WIDEST, terminal_width, text_plot


def plot(values: list[float], width: int = 40, **settings: bool) -> list[str]:
    return text_plot(list(range(len(values))), values, width=width, x_name="step", **settings).splitlines()


@pytest.mark.parametrize("width", [NARROWEST, 40, WIDEST])
@pytest.mark.parametrize("count", [1, 2, 7, 5000])
def test_a_plot_fits_its_width_and_is_ascii(width: int, count: int) -> None:
    lines = plot([math.sin(k / count) * 1e-4 for k in range(count)], width)
    assert len(lines) == HEIGHT + 2
    assert max(map(len, lines)) <= width
    assert "\n".join(lines).isascii()


def test_a_line_runs_from_corner_to_corner_without_gaps() -> None:
    lines = plot([float(k) for k in range(100)])
    rows = [line.partition("|")[2] for line in lines[:HEIGHT]]
    assert rows[0].rstrip().endswith("*")
    assert rows[-1].startswith("*")
    columns = max(map(len, rows))
    assert all(any(row[k : k + 1] == "*" for row in rows) for k in range(columns))


def test_two_points_are_joined() -> None:
    assert sum(line.count("*") for line in plot([0.0, 1.0])[:HEIGHT]) >= 30


def test_a_peak_within_a_column_is_shown() -> None:
    assert "*" in plot([0.1] * 500 + [1.0] + [0.1] * 500)[0]


def test_the_axis_begins_at_0_or_at_the_smallest_value() -> None:
    assert plot([2.0, 3.0])[HEIGHT - 1].split()[0] == "0"
    assert plot([2.0, 3.0], from_zero=False)[HEIGHT - 1].split()[0] == "2"


def test_equal_factors_are_equally_wide_on_a_logarithmic_axis() -> None:
    lines = text_plot([1, 10, 100], [0, 1, 0], width=43, x_name="x", log_x=True).splitlines()
    top = lines[0].partition("|")[2]
    assert top.index("*") == pytest.approx(20, abs=2)


def test_a_constant_has_a_plot() -> None:
    assert plot([0.0] * 9)[HEIGHT - 1].count("*") > 20


def test_the_width_is_that_of_the_terminal_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, expected in (("10", NARROWEST), ("60", 59), ("300", WIDEST)):
        monkeypatch.setenv("COLUMNS", columns)
        assert terminal_width() == expected
