"""Cells of CSV files, which spreadsheets open: text that isn't run as a formula."""

# the full-width forms too, which some programs take for the usual ones
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def neutral(text: str) -> str:
    """Return the text, with an apostrophe in front where a spreadsheet would take it for a formula.

    Text that looks as if it had been treated gets one more, so that different texts stay different. Source: OWASP, CSV
    Injection.
    """
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA_STARTS) else text
