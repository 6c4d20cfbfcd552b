import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml

from segkit.config import schema
from segkit.config.reading import (
    config_from_dict,
    config_to_dict,
    differences,
    dump_config,
    known_keys,
    load_config,
    override_config,
)
from segkit.config.schema import RunConfig
from segkit.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"


def write(folder: Path, text: str) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(text)
    return path


def refused(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(write(folder, text), overrides)
    return str(caught.value)


# ---- reading


def test_an_empty_file_gives_the_defaults_and_a_run_folder_of_its_name(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")) == RunConfig(run="runs/experiment")


def test_values_reach_their_section(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "data: {canvas: [64, 96]}\noptim: {lr: 1e-4}\n"))
    assert config.data.canvas == (64, 96)
    assert config.optim.lr == 1e-4


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "0.0001", "1.e-4", "+1e-4"])
def test_every_way_to_write_a_number_is_a_number(tmp_path: Path, text: str) -> None:
    assert load_config(write(tmp_path, f"optim: {{lr: {text}}}")).optim.lr == 1e-4


def test_class_names_that_yaml_takes_for_booleans_stay_words(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "data: {classes: [no, yes, on, off]}"))
    assert config.data.classes == ("no", "yes", "on", "off")


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    config = load_config(
        write(tmp_path, "train: {epochs: 3}"), ["train.epochs=7", "data.canvas=[8, 16]", "model.options.dropout=0.2"]
    )
    assert (config.train.epochs, config.data.canvas, config.model.options) == (7, (8, 16), {"dropout": 0.2})


def test_a_dumped_config_loads_as_the_same_config(tmp_path: Path) -> None:
    text = "data: {mask_values: [[0, 0, 0], [255, 0, 0]], classes: [a, b], ignore_values: rest}\ntrain: {seed: 7}"
    config = load_config(write(tmp_path, text))
    assert load_config(write(tmp_path, dump_config(config))) == config


def test_a_config_survives_a_round_trip_through_plain_values() -> None:
    config = override_config(RunConfig(run="x"), ["data.classes=[a, b]"], where="test")
    assert config_from_dict(config_to_dict(config), where="test") == config


# ---- refusing


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    message = refused(tmp_path, "data: {layot: voc, canvas: [512]}\ntrain: {epochs: 1.5}\n", "loss.gama=2")
    assert "4 mistakes" in message
    for words in (
        "data.layot: unknown key; did you mean data.layout?",
        "data.canvas: found [512], expected a list of 2, each a whole number >= 8",
        "train.epochs: found 1.5, expected a whole number >= 1",
        "loss.gama: unknown key; did you mean loss.gamma?",
    ):
        assert words in message


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("epochs", "train.epochs"),
        ("learning_rate", "optim.lr"),
        ("train.num_workers", "train.workers"),
        ("dta", "data"),
        ("run.name", "run"),
    ],
)
def test_unknown_keys_come_with_the_key_that_was_meant(tmp_path: Path, key: str, known: str) -> None:
    assert f"did you mean {known}?" in refused(tmp_path, "", f"{key}=1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: {epochs: '3'}", 'found "3", expected a whole number'),
        ("train: {channels_last: 1}", "found 1, expected true or false"),
        ("optim: {lr: 0}", "expected a number > 0"),
        ("augment: {flip: 2}", "expected a number >= 0 and <= 1"),
        ("data: {layout: vocc}", "did you mean voc?"),
        ("model: {name: unett}", "did you mean unet?"),
        ("train: {seed: null}", "found null"),
        ("data: 3", "data: found 3"),
    ],
)
def test_wrong_values_are_named_with_what_was_expected(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: {epochs: 1}\ntrain: {epochs: 2}", "line 2: the key 'train' stands there twice"),
        ("- a\n- b", "found list"),
        ("train: {epochs: [}", "line 1"),
        ("1: 2", "found the key 1"),
        ("!!python/object/apply:os.system [echo]", "could not determine a constructor"),
    ],
)
def test_yaml_that_means_nothing_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.yaml.*No such file"):
        load_config(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("loss: {gamma: 3}", "loss.gamma"),
        ("loss: {alpha: [1, 1]}", "loss.alpha"),
        ("loss: {cross_entropy: 0, dice: 1, class_weights: log}", "loss.class_weights"),
        ("optim: {momentum: 0.5}", "optim.momentum"),
        ("optim: {schedule: cosine, power: 2}", "optim.power"),
        ("optim: {step_epochs: [3]}", "optim.step_epochs"),
        ("optim: {schedule: constant, min_lr: 0.1}", "optim.min_lr"),
        ("data: {val_fraction: 0.1}", "data.val_fraction"),
        ("data: {repeat_threshold: 0.1}", "data.repeat_threshold"),
        ("data: {sampler: class_balanced, repeat_threshold: 0.1}", "data.repeat_threshold"),
        ("augment: {rare_crops: 0.5, scale: [0.5, 1.0]}", "augment.rare_crops"),
        ("augment: {rare_crops: 0.5, scale: [1.0, 1.5], crop: [768, 800]}", "augment.rare_crops"),
    ],
)
def test_a_setting_without_effect_is_an_error(tmp_path: Path, text: str, key: str) -> None:
    assert f"{key}: set, but without effect" in refused(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "loss: {focal: 1, gamma: 3}",
        "optim: {name: sgd, momentum: 0.5}",
        "optim: {schedule: step, step_epochs: [3]}",
        "data: {layout: folders, val_fraction: 0.1}",
        "data: {sampler: repeat_factor, repeat_threshold: 0.1}",
        "augment: {rare_crops: 0.5, scale: [1.0, 1.5], crop: [768, 700]}",
        "augment: {rare_crops: 0.5, scale: [0.5, 1.0], crop: [512, 256]}",
        "loss: {gamma: 2.0}",  # the default is no setting
    ],
)
def test_the_same_setting_where_it_has_an_effect_is_fine(tmp_path: Path, text: str) -> None:
    load_config(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("loss: {cross_entropy: 0}", "every weight is 0"),
        ("augment: {scale: [2, 1]}", "expected [smallest, largest]"),
        ("optim: {schedule: step}", "optim.step_epochs: empty"),
        ("train: {batch_size: 8, accumulate: 3}", "doesn't divide"),
        ("data: {ignore_values: rest}", "needs data.mask_values"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(tmp_path, text)


# ---- the manual


def test_reference_explains_every_key_and_holds_its_default() -> None:
    text = (CONFIGS / "reference.yaml").read_text()
    plain = yaml.safe_load(text)
    assert load_config(CONFIGS / "reference.yaml", ["run="]) == dataclasses.replace(RunConfig(), run="runs/reference")
    for key, kind in known_keys().items():
        section = plain
        *sections, last = key.split(".")
        for name in sections:
            section = section[name]
        assert last in section, f"configs/reference.yaml lacks {key}"
        if not dataclasses.is_dataclass(kind):
            line = next(line for line in text.splitlines() if line.strip().startswith(f"{last}:"))
            assert "#" in line, f"configs/reference.yaml doesn't explain {key}"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_loads(path: Path) -> None:
    load_config(path)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_is_short_and_says_how_to_run_it(path: Path) -> None:
    if path.stem == "reference":
        return
    lines = path.read_text().splitlines()
    assert 10 <= len(lines) <= 30
    assert f"configs/{path.name}" in "\n".join(line for line in lines if line.startswith("#"))


def test_names_in_the_config_are_those_of_the_tables() -> None:
    from segkit.datasets.layouts import LAYOUTS
    from segkit.loading.sampler import SAMPLERS
    from segkit.losses.table import LOSSES
    from segkit.models.table import MODELS

    assert set(get_args(schema.LayoutName)) == set(LAYOUTS)
    assert set(get_args(schema.ModelName)) == set(MODELS)
    assert set(get_args(schema.SamplerName)) == set(SAMPLERS)
    assert set(LOSSES) <= {spec.name for spec in dataclasses.fields(schema.LossConfig)}


def test_differences_name_the_settings_that_changed() -> None:
    old, new = RunConfig(), override_config(RunConfig(), ["train.epochs=3"], where="test")
    assert differences(old, new) == {"train.epochs": (100, 3)}


def test_a_typo_is_reported_without_importing_numpy_or_torch(tmp_path: Path) -> None:
    path = write(tmp_path, "trian: {}")
    code = (
        "import sys; from segkit.cli import main; code = main(['train', sys.argv[1]]);"
        "assert not {'numpy', 'torch', 'cv2'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "did you mean train?" in done.stderr
