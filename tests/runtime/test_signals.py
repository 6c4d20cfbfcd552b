import os
import signal
import time

import pytest

from segkit.runtime.signals import StopRequest


def test_the_first_signal_asks_and_the_second_stops() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    with StopRequest() as stop:
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_comes_right_after_the_first_signal_is_the_same_request() -> None:
    with StopRequest(grace=0.2) as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):  # a scheduler, then torchrun
            os.kill(os.getpid(), number)
        assert stop.asked
        time.sleep(0.25)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_asks_as_well() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
