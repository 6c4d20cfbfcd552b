"""Cells of CSV files that spreadsheets open."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def neutral(text: str) -> str:
    """Return text that no spreadsheet takes for a formula: one that starts like it gets an apostrophe in front.

    Source: OWASP, CSV Injection.
    """
    return f"'{text}" if text.startswith(_FORMULA) else text
