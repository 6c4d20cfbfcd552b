"""Search for the settings with the best validation mIoU: trials by Optuna, each an ordinary run in its own folder.

A trial trains to a few rungs, ever longer, and is given up where it falls behind the others (pruning). Between two
rungs it is stopped and resumed, which changes no bit: a trial that reaches the end is the run that `segkit train` would
have made. Trials are kept in study.log, so a search that was stopped continues, and the same command in several shells
or on several machines that share the folder searches together.

The best of many trials is chosen on validation images, so its figure there flatters it: score it once on others.
"""

import contextlib
import csv
import io
import json
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from segkit.config.keys import differences
from segkit.config.reading import config_to_dict, flatten, override_config
from segkit.config.schema import RunConfig
from segkit.config.space import Between, Space
from segkit.config.strict_yaml import dump_yaml
from segkit.errors import ConfigError, SegkitError, first_line
from segkit.loading.prepare import prepare_data
from segkit.runtime.files import lock, write_bytes_durably
from segkit.runtime.logs import quiet
from segkit.runtime.machine import processes_here
from segkit.train import train
from segkit.training.run_folder import RunFolder
from segkit.training.setup import build_plan

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

SHARES = (0.125, 0.25, 0.5)  # of the epochs, where a trial may be given up
FREE = 5  # trials that are never given up, for the others to be compared with
HOPELESS = 3  # trials that fail before any is done
NAME = "segkit"


@dataclass(frozen=True)
class Trial:
    """One trial: what was tried, what became of it, and its best validation mIoU (0..1; NaN without any)."""

    number: int
    settings: dict[str, Any]
    state: str  # done, given up, failed or running
    miou: float
    epochs: int
    folder: Path


@dataclass(frozen=True)
class Search:
    """What a search has found so far; `importance` says how much of the differences each key explains (sum 1)."""

    folder: Path
    trials: tuple[Trial, ...]
    importance: dict[str, float]
    stopped: bool

    @property
    def best(self) -> Trial | None:
        """The trial with the highest mIoU among those that are done."""
        done = [trial for trial in self.trials if trial.state == "done"]
        return max(done, key=lambda trial: trial.miou, default=None)


def tune(config: RunConfig, space: Space, *, num_trials: int, prune: bool = True) -> Search:
    """Make trials until the search has `num_trials` of them, in the run folder of `config`; write trials.csv and
    best.yaml there.

    Raises:
        SegkitError: as `train`, of the config itself; the study in the folder is one of another config or space.
        ConfigError: optuna isn't installed, or several processes were started by torchrun.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            "tune: needs the package optuna, which isn't installed; install it with pip install 'segkit[tune]'"
        ) from error
    if processes_here() > 1:
        raise ConfigError("tune: found several processes of torchrun, expected one; start it in several shells instead")
    folder = Path(config.run)
    _check_same(folder, config, space)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _open(folder, config, prune=prune)
    rungs = _rungs(config)
    _take_up(study, folder)
    stopped = False
    while not stopped and (todo := _todo(study, num_trials)):
        with _begun(study, folder, space) as trial:
            log.info("trial %d, %d to go: %s", trial.number, todo, _words(_overrides(trial, space)))
            stopped = _run(study, trial, config, space, rungs)
    trials = tuple(_trial(frozen, folder) for frozen in study.get_trials(deepcopy=False))
    search = Search(folder, trials, _importance(study), stopped)
    _write(search, config)
    return search


# ---- the study


def _check_same(folder: Path, config: RunConfig, space: Space) -> None:
    """Note what is searched; raises ConfigError if the folder's study is about something else."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = {"config": config_to_dict(config), "space": {name: repr(values) for name, values in space.items()}}
    noted = folder / "search.json"
    if not noted.is_file():
        if any(folder.iterdir()):
            raise ConfigError(f"{folder}: not empty, and no search; choose another folder with run=FOLDER")
        write_bytes_durably(noted, json.dumps(plain, indent=1).encode())
        return
    old = json.loads(noted.read_text(encoding="utf-8"))
    flat = [flatten(each) for each in (old, plain)]
    if changed := sorted(name for name in {*flat[0], *flat[1]} if flat[0].get(name) != flat[1].get(name)):
        raise ConfigError(
            f"{folder}: holds a search that differs in {', '.join(changed[:4])}; its trials don't compare with new "
            "ones; choose another folder with run=FOLDER"
        )


def _open(folder: Path, config: RunConfig, *, prune: bool) -> "optuna.Study":
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    study = optuna.create_study(storage=storage, study_name=NAME, direction="maximize", load_if_exists=True)
    # what was drawn before isn't drawn again: the same seed would begin anew in each process
    seed = (config.train.seed + 1_000_003 * len(study.get_trials(deepcopy=False))) % 2**32
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=FREE)
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=FREE) if prune else optuna.pruners.NopPruner()
    return study


def _take_up(study: "optuna.Study", folder: Path) -> None:
    """Queue the trials that a process was killed in: each continues in its own folder."""
    from optuna.trial import TrialState

    for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        run = _folder(frozen, folder)
        try:
            held = lock(run.with_suffix(".lock"), wait=False)
        except Timeout:
            continue  # another process is at it
        try:
            study.tell(frozen.number, state=TrialState.FAIL)
            study.enqueue_trial(frozen.params, user_attrs={"folder": run.name})
        finally:
            held.release()


def _todo(study: "optuna.Study", num_trials: int) -> int:
    """How many trials are missing: those that run elsewhere count, those that were killed and taken up don't."""
    from optuna.trial import TrialState

    counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    failed = [each for each in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)) if "why" in each.user_attrs]
    return max(0, num_trials - len(study.get_trials(deepcopy=False, states=counted)) - len(failed))


@contextlib.contextmanager
def _begun(study: "optuna.Study", folder: Path, space: Space) -> Iterator["optuna.Trial"]:
    """Give the next trial, with its values chosen and its folder locked."""
    trial = study.ask()
    if "folder" not in trial.user_attrs:
        trial.set_user_attr("folder", f"trial-{trial.number:04d}")
    held: FileLock = lock((folder / trial.user_attrs["folder"]).with_suffix(".lock"), wait=True)
    try:
        for name, values in space.items():
            _suggest(trial, name, values)
        yield trial
    finally:
        held.release()


def _suggest(trial: "optuna.Trial", name: str, values: Any) -> Any:
    if not isinstance(values, Between):
        return json.loads(trial.suggest_categorical(name, values.values))
    if values.whole:
        return trial.suggest_int(name, int(values.low), int(values.high), log=values.log, step=int(values.step or 1))
    return trial.suggest_float(name, values.low, values.high, log=values.log, step=values.step)


def _overrides(trial: "optuna.Trial", space: Space) -> list[str]:
    return [f"{name}={json.dumps(_suggest(trial, name, values))}" for name, values in space.items()]


# ---- a trial


def _rungs(config: RunConfig) -> list[int]:
    """Return the epochs up to which a trial trains, one after the other: validated ones, the last is the last."""
    every, epochs = config.eval.every, config.train.epochs
    early = {math.ceil(share * epochs / every) * every for share in SHARES}
    return sorted({*(rung for rung in early if rung < epochs), epochs})


def _run(study: "optuna.Study", trial: "optuna.Trial", config: RunConfig, space: Space, rungs: Sequence[int]) -> bool:
    """Train a trial rung by rung and tell the study; return True if a signal stopped it, which leaves it running."""
    from optuna.trial import TrialState

    folder = RunFolder(Path(config.run) / trial.user_attrs["folder"])
    words = [*_overrides(trial, space), f"run={json.dumps(str(folder.path))}"]
    try:
        config = override_config(config, words, where=f"trial {trial.number}")
        data = prepare_data(config.data, seed=config.train.seed)
        per_epoch = build_plan(config, data).batches_per_epoch
        for rung in rungs:
            with quiet("segkit.training", level=logging.WARNING):  # data and model are the same at each rung
                result = train(config, resume="auto", max_steps=rung * per_epoch)
            if result.stopped:
                return True
            assert result.scores is not None, "rungs are epochs that are validated"
            miou = result.scores.miou
            trial.report(miou, rung)
            if rung != rungs[-1] and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, miou)
    except SegkitError as error:
        # settings that exclude each other, or a rate at which it diverges: of this trial alone
        log.warning("trial %d failed: %s", trial.number, first_line(error))
        trial.set_user_attr("why", str(error))
        study.tell(trial, state=TrialState.FAIL)
        _check_hope(study)
    for left in (folder.last, folder.previous):  # a trial that is over never resumes; its best.pt stays
        left.unlink(missing_ok=True)
    return False


# ---- what was found


def _check_hope(study: "optuna.Study") -> None:
    """Raises ConfigError if every trial so far has failed, and they are some: the next ones would too."""
    from optuna.trial import TrialState

    failed = [each.user_attrs["why"] for each in study.get_trials(deepcopy=False) if "why" in each.user_attrs]
    if len(failed) >= HOPELESS and not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise ConfigError(f"tune: all {len(failed)} trials failed; the last: {failed[-1]}")


def _trial(frozen: "optuna.trial.FrozenTrial", folder: Path) -> Trial:
    from optuna.trial import TrialState

    states = {TrialState.COMPLETE: "done", TrialState.PRUNED: "given up", TrialState.FAIL: "failed"}
    last = max(frozen.intermediate_values, default=0)
    best = max(frozen.intermediate_values.values(), default=math.nan)
    settings = {name: json.loads(value) if isinstance(value, str) else value for name, value in frozen.params.items()}
    state = states.get(frozen.state, "running")
    if state == "failed" and "why" not in frozen.user_attrs:
        state = "taken up"
    return Trial(frozen.number, settings, state, best, last, _folder(frozen, folder))


def _folder(frozen: "optuna.trial.FrozenTrial", folder: Path) -> Path:
    return folder / frozen.user_attrs.get("folder", f"trial-{frozen.number:04d}")


def _importance(study: "optuna.Study") -> dict[str, float]:
    """Return how much each key matters (PED-ANOVA, Watanabe et al. 2023); empty of too few trials."""
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # too few trials, or all of them alike: nothing to say
            found = optuna.importance.get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError, UserWarning):
        return {}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _write(search: Search, config: RunConfig) -> None:
    keys = list(dict.fromkeys(name for trial in search.trials for name in trial.settings))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "miou", "epochs", *keys])
    for trial in search.trials:
        miou = "" if math.isnan(trial.miou) else trial.miou
        values = [json.dumps(trial.settings.get(name)) for name in keys]
        writer.writerow([trial.number, trial.state, miou, trial.epochs, *values])
    write_bytes_durably(search.folder / "trials.csv", text.getvalue().encode())
    if best := search.best:
        write_bytes_durably(search.folder / "best.yaml", best_yaml(config, best).encode())


def best_yaml(config: RunConfig, best: Trial) -> str:
    """Return a config with the settings of the best trial, as differences from the defaults."""
    chosen = override_config(
        config, [f"{name}={json.dumps(value)}" for name, value in best.settings.items()], where="best.yaml"
    )
    plain: dict[str, Any] = {}
    for name, (_, value) in differences(RunConfig(), chosen).items():
        if name == "run":
            continue
        section, _, last = name.rpartition(".")
        plain.setdefault(section, {})[last] = json.loads(json.dumps(value))
    head = f"# The best of a search: trial {best.number}, {100 * best.miou:.2f} % mIoU on validation, which chose it.\n"
    return head + dump_yaml(plain)


def _words(overrides: Sequence[str]) -> str:
    return " ".join(overrides) or "as the config says"
