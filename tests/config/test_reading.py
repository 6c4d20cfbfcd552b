import subprocess
import sys
from pathlib import Path

import pytest

from segkit.config.reading import config_from_dict, config_to_dict, dump_config, load_config, override_config
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
    ("text", "words"),
    [
        ("train: {epochs: 1}\ntrain: {epochs: 2}", "line 2: the key 'train' is listed twice"),
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


def test_a_typo_is_reported_without_importing_numpy_or_torch(tmp_path: Path) -> None:
    path = write(tmp_path, "trian: {}")
    code = (
        "import sys; from segkit.cli import main; code = main(['train', sys.argv[1]]);"
        "assert not {'numpy', 'torch', 'cv2'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "did you mean train?" in done.stderr
