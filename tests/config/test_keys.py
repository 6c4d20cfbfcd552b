from segkit.config.keys import EVALUABLE, KEYS, RESUMABLE, differences
from segkit.config.reading import config_to_dict, override_config
from segkit.config.schema import RunConfig


def test_a_resumed_run_may_change_where_files_are_and_how_long_how_and_on_what_it_runs() -> None:
    assert set(RESUMABLE) == {
        "run", "data.root", "data.cache", "data.cache_gib", "train.epochs", "train.patience", "train.workers",
        "train.start_method",
        "train.device", "train.clip_norm", "train.on_nonfinite", "train.checkpoint_every_steps",
        "train.checkpoint_every_minutes", "train.timeout_minutes", "train.sharding", "train.profile", "eval.every",
        "eval.batch_size", "eval.pictures", "eval.tta", "report.trackers", "report.histograms", "report.tensorboard",
    }  # fmt: skip


def test_evaluation_takes_where_the_data_is_how_it_is_read_and_on_what_it_runs() -> None:
    assert set(EVALUABLE) == {
        "data.root", "data.layout", "data.val", "data.val_fraction", "data.classes", "data.mask_values",
        "data.ignore_values", "data.canvas", "data.cache_gib", "eval.batch_size", "train.device", "train.precision",
        "train.channels_last", "eval.tta",
    }  # fmt: skip


def test_keys_are_those_of_the_config_in_its_order() -> None:
    plain = config_to_dict(RunConfig())
    names = []
    for name, value in plain.items():
        names.append(name)
        if KEYS[name].is_section:
            names += [f"{name}.{last}" for last in value]
    assert list(KEYS) == names


def test_differences_name_the_settings_that_changed() -> None:
    old, new = RunConfig(), override_config(RunConfig(), ["train.epochs=3"], where="test")
    assert differences(old, new) == {"train.epochs": (100, 3)}
    assert differences(old, RunConfig()) == {}
