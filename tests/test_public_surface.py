"""The names that other programs may import from segkit, and what importing them costs."""

import importlib
import inspect
import subprocess
import sys

import pytest

import segkit

PUBLIC = {
    "Checkpoint": "segkit.models.checkpoint.Checkpoint",
    "Predictor": "segkit.inference.predictor.Predictor",
    "evaluate": "segkit.eval_miou.eval_miou",
    "load_config": "segkit.config.reading.load_config",
}
STABLE = ["segkit.cli.main", "segkit.train.train", "segkit.eval_miou.eval_miou", "segkit.predict.Predictor"]


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_public_names_are_these() -> None:
    assert set(segkit.__all__) == {*PUBLIC, "train", "__version__"}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_what_its_module_defines(name: str) -> None:
    module, _, attribute = PUBLIC[name].rpartition(".")
    assert getattr(segkit, name) is getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("path", STABLE)
def test_a_stable_path_leads_to_something_to_call(path: str) -> None:
    module, _, attribute = path.rpartition(".")
    assert callable(getattr(importlib.import_module(module), attribute))


@pytest.mark.parametrize("first", ["", "import segkit.train", "import segkit.plan", "from segkit.train import train"])
def test_train_is_the_module_whatever_was_imported_before(first: str) -> None:
    run(f"{first}\nimport segkit, sys\nassert segkit.train is sys.modules['segkit.train']; segkit.train.train")


def test_every_public_name_is_documented() -> None:
    assert segkit.__doc__ is not None
    for name in segkit.__all__:
        assert name in segkit.__doc__ or name == "__version__"
        assert inspect.getdoc(getattr(segkit, name))


def test_every_public_name_is_listed_before_it_is_used() -> None:
    run("import segkit; assert set(segkit.__all__) <= set(dir(segkit))")


def test_a_name_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(AttributeError, match="'segkit' has no attribute 'trian'"):
        segkit.trian  # noqa: B018


def test_import_segkit_loads_nothing_heavy() -> None:
    run("import segkit, sys; assert not {'numpy', 'torch', 'cv2', 'PIL', 'yaml', 'pydantic'} & set(sys.modules)")


def test_reading_a_config_by_its_public_name_loads_no_torch() -> None:
    run("from segkit import load_config; import sys; assert not {'numpy', 'torch', 'cv2'} & set(sys.modules)")
