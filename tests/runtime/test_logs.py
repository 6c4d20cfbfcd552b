import logging

import pytest

from segkit.runtime.logs import quiet


@pytest.fixture
def chatty() -> logging.Logger:
    log = logging.getLogger("chatty")
    log.setLevel(logging.INFO)
    return log


def test_a_logger_is_muted_below_a_level_and_speaks_again_afterwards(
    chatty: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with quiet("chatty", level=logging.WARNING):
        chatty.info("muted")
        chatty.warning("heard")
    chatty.info("again")
    assert caplog.messages == ["heard", "again"]


def test_a_logger_that_says_less_already_is_left_so(chatty: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    chatty.setLevel(logging.ERROR)
    with quiet("chatty", level=logging.WARNING):
        chatty.warning("muted before, and now")
    assert caplog.messages == []


def test_a_logger_speaks_again_after_an_error(chatty: logging.Logger) -> None:
    with pytest.raises(ZeroDivisionError), quiet("chatty", level=logging.WARNING):
        1 / 0  # noqa: B018
    assert chatty.level == logging.INFO
