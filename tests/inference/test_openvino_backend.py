"""What OpenVINO's own process state must not do to ours."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

if importlib.util.find_spec("openvino") is None:  # not imported: its telemetry would be started
    pytest.skip("openvino isn't installed: pip install segkit[openvino]", allow_module_level=True)

SIGNAL_AFTER_TWO_MODELS = """
import os, signal, sys
from segkit import Predictor
first = Predictor.load(sys.argv[1])
second = Predictor.load(sys.argv[1])
del first, second  # in the order that leaves the signal stack of a freed Core behind
handled = []
signal.signal(signal.SIGUSR1, lambda *_: handled.append(True))
os.kill(os.getpid(), signal.SIGUSR1)
assert handled
"""


def test_signals_are_handled_after_models_are_freed_in_any_order(exported: Callable[..., Path]) -> None:
    path = exported("model.xml")
    done = subprocess.run([sys.executable, "-c", SIGNAL_AFTER_TWO_MODELS, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
