import pytest

from segkit.prediction.cells import neutral


@pytest.mark.parametrize("text", ["=1+1", "+1", "-x.jpg", "@SUM", "\tx", "\rx", "\uff1d1"])
def test_what_a_spreadsheet_takes_for_a_formula_becomes_text(text: str) -> None:
    assert neutral(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "a=b.jpg", "in/-x.jpg", "'quoted'", "1.jpg"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert neutral(text) == text


def test_different_texts_stay_different() -> None:
    assert len({neutral(text) for text in ("=a", "'=a", "''=a", "a")}) == 4
