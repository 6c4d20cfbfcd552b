from pathlib import Path

import pytest

from segkit.config.space import Between, Choice, read_space
from segkit.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "space.yaml"
    path.write_text(text)
    return path


def test_numbers_and_choices_are_read(tmp_path: Path) -> None:
    space = read_space(
        write(
            tmp_path,
            "optim.lr: {low: 0.0001, high: 0.01, log: true}\n"
            "train.epochs: {low: 2, high: 8, step: 2}\n"
            "augment.scale: [[0.5, 2.0], [1, 1]]\n"
            "model.options.dropout: [0.0, 0.1]\n",
        )
    )
    assert space == {
        "optim.lr": Between(0.0001, 0.01, log=True),
        "train.epochs": Between(2, 8, step=2),
        "augment.scale": Choice(("[0.5, 2.0]", "[1, 1]")),
        "model.options.dropout": Choice(("0.0", "0.1")),
    }
    assert isinstance(epochs := space["train.epochs"], Between)
    assert epochs.whole
    assert isinstance(lr := space["optim.lr"], Between)
    assert not lr.whole


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found no keys"),
        ("optim.rl: [1, 2]", "optim.rl: no key of a config"),
        ("optim: [1, 2]", "optim: no key of a config"),
        ("run: [a, b]", "run: each trial has a folder of its own"),
        ("optim.lr: [0.1]", "expected at least two values"),
        ("optim.lr: 0.1", "expected a list of values, or low and high"),
        ("optim.lr: {low: 0.1}", "expected a list of values, or low and high"),
        ("optim.lr: {low: 0.1, high: 1, steps: 3}", "expected a list of values, or low and high"),
        ("optim.lr: {low: 1, high: 0.1}", "expected low below high"),
        ("optim.lr: {low: 0, high: 0.1, log: true}", "log needs low above 0"),
        ("optim.lr: {low: a, high: b}", "expected numbers"),
        ("optim.lr: {low: 1, high: 2, step: 0}", "step: found 0"),
        ("optim.lr: {low: 1, high: 2, log: 1}", "log: found 1"),
    ],
)
def test_what_is_no_space_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_space(write(tmp_path, text))


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)a\.b: .*optim\.lr: "):
        read_space(write(tmp_path, "a.b: [1, 2]\noptim.lr: [1]\n"))
