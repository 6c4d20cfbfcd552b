import pytest

from segkit.config.explain import OTHER_NAMES, unknown_key
from segkit.config.keys import KEYS
from segkit.config.reading import config_from_dict
from segkit.config.schema import RunConfig
from segkit.config.strict_yaml import parse_yaml
from segkit.errors import ConfigError


def config(text: str) -> RunConfig:
    return config_from_dict(parse_yaml(text, where="test"), where="test")


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config(text)
    return str(caught.value)


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
def test_wrong_values_are_named_with_what_was_expected(text: str, words: str) -> None:
    assert words in refused(text)


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
def test_unknown_keys_come_with_the_key_that_was_meant(key: str, known: str) -> None:
    assert f"did you mean {known}?" in unknown_key(key)


def test_a_key_that_resembles_none_comes_with_where_all_are_listed() -> None:
    assert unknown_key("xyzzy") == "xyzzy: unknown key; configs/reference.yaml lists every key"


def test_names_of_other_programs_are_no_keys_of_ours_and_lead_to_one() -> None:
    assert not set(OTHER_NAMES) & set(KEYS)
    assert set(OTHER_NAMES.values()) <= set(KEYS)
