import io
import sys

import pytest

from segkit.runtime.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "show", "drawn"), [(Terminal, True, True), (Terminal, False, False),
                                                       (io.StringIO, True, False)])  # fmt: skip
def test_a_bar_is_drawn_in_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], show: bool, drawn: bool
) -> None:
    errors = stream()
    monkeypatch.setattr(sys, "stderr", errors)
    assert list(progress([1, 2, 3], title="reading", unit="files", show=show)) == [1, 2, 3]
    assert ("reading" in errors.getvalue()) is drawn
