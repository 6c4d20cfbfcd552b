import os
import pickle
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from segkit.classes import Classes
from segkit.config.schema import DataConfig, ModelConfig, RunConfig
from segkit.errors import CheckpointError, RunFolderError
from segkit.models.checkpoint import Checkpoint, Progress
from segkit.models.origin import Origin
from segkit.models.table import build_model
from segkit.training.saver import BackgroundSaver

CONFIG = RunConfig(
    run="runs/x", data=DataConfig(root="y"), model=ModelConfig(name="lite_unet", encoder="resnet18", pretrained="none")
)
CLASSES = Classes.build(["a", "b", "c"])


def checkpoint(**settings: object) -> Checkpoint:
    weights = build_model(CONFIG.model, 3).state_dict()
    return Checkpoint(weights=weights, config=CONFIG, classes=CLASSES, **settings)  # type: ignore[arg-type]


def test_everything_survives_a_round_trip(tmp_path: Path) -> None:
    saved = checkpoint(
        progress=Progress(step=7, epoch_losses=[1.5, 2.5], best_epoch=2, best_confusion=[[1, 2], [3, 4]]),
        held_out=["p", "q"],
        ema={"w": torch.ones(2)},
        ema_updates=3,
        optimizer={"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]},
        scaler={"scale": 2.0},
        postprocess={"rules": [{"class": 1, "min_component": 64}], "ignore_index": 255, "tuned_on": "val"},
    )
    saved.save(tmp_path / "c.pt")
    loaded = Checkpoint.load(tmp_path / "c.pt")
    assert (loaded.config, loaded.classes, loaded.progress) == (CONFIG, CLASSES, saved.progress)
    assert (loaded.held_out, loaded.ema_updates, loaded.scaler) == (["p", "q"], 3, {"scale": 2.0})
    assert loaded.optimizer == saved.optimizer
    assert loaded.postprocess == saved.postprocess
    assert loaded.weights.keys() == saved.weights.keys()
    assert all(torch.equal(loaded.weights[name], saved.weights[name]) for name in saved.weights)


@pytest.mark.parametrize("name", ["c.pt", "c.safetensors"])
def test_the_zoom_of_the_training_images_is_kept_and_gives_the_smallest(tmp_path: Path, name: str) -> None:
    saved = checkpoint(zoom=1.024)
    (saved.save if name == "c.pt" else saved.save_weights)(tmp_path / name)
    loaded = Checkpoint.load(tmp_path / name)
    assert loaded.zoom == 1.024
    assert loaded.smallest_zoom == pytest.approx(0.256)  # augment.scale begins at 0.25


def test_a_file_from_before_the_zoom_was_noted_has_none(tmp_path: Path) -> None:
    checkpoint(zoom=1.024).save(tmp_path / "c.pt")
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    del content["zoom"]
    torch.save(content, tmp_path / "old.pt")
    loaded = Checkpoint.load(tmp_path / "old.pt")
    assert (loaded.zoom, loaded.smallest_zoom) == (None, None)


def test_the_moving_average_is_what_is_built(tmp_path: Path) -> None:
    saved = checkpoint()
    assert torch.equal(saved.build().encoder.conv1.weight, saved.weights["network.encoder.conv1.weight"])
    saved.ema = {name: torch.zeros_like(tensor) for name, tensor in saved.weights.items()}
    assert not saved.build().encoder.conv1.weight.any()


def test_weights_that_do_not_fit_are_refused() -> None:
    saved = checkpoint()
    saved.classes = Classes.build(["a", "b"])
    with pytest.raises(CheckpointError, match="don't fit lite_unet with encoder resnet18"):
        saved.build()


# ---- files that are not what they should be


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no\.pt: no such file"):
        Checkpoint.load(tmp_path / "no.pt")
    with pytest.raises(CheckpointError, match=r"a folder, expected a file.*checkpoints/best\.pt"):
        Checkpoint.load(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "c.pt"
    checkpoint().save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError, match="truncated"):
        Checkpoint.load(path)


@pytest.mark.parametrize("content", [{"state_dict": {}, "epoch": 3}, [1, 2]])
def test_a_checkpoint_of_another_program_is_refused_with_a_way_to_use_it(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=r"not a checkpoint of segkit.*model\.pretrained="):
        Checkpoint.load(tmp_path / "c.pt")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    torch.save({"segkit": 99, "version": "9.0"}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match=r"segkit 9\.0 in a newer format.*update segkit"):
        Checkpoint.load(tmp_path / "c.pt")


class Bomb:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (os.system, ("touch exploded",))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"segkit": 1, "weights": Bomb()}
    if zipped:
        torch.save(content, "c.pt")
    else:
        Path("c.pt").write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match=r"refused|not a checkpoint"):
        Checkpoint.load(Path("c.pt"))
    assert not Path("exploded").exists()


# ---- writing


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_named_and_the_old_checkpoint_is_kept(tiny_disk: Path) -> None:
    path = tiny_disk / "c.pt"
    path.write_text("old")
    with pytest.raises(
        RunFolderError,
        match=r"no space left on the disk.*MiB are free there and \d+ MiB are needed: \d+ MiB are missing",
    ):
        checkpoint().save(path)
    assert path.read_text() == "old"
    assert [p.name for p in tiny_disk.iterdir()] == ["c.pt"]


def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="can't be written"):
        checkpoint().save(tmp_path / "file" / "c.pt")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_flipped_bit_is_noticed_by_the_checksum(tmp_path: Path, share: float) -> None:
    for name, save in (("c.pt", Checkpoint.save), ("c.safetensors", Checkpoint.save_weights)):
        path = tmp_path / name
        save(checkpoint(), path)
        content = bytearray(path.read_bytes())
        content[int(len(content) * share)] ^= 1
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"damaged.*checksum"):
            Checkpoint.load(path)


# ---- safetensors


def test_a_small_file_holds_what_prediction_needs_and_no_more(tmp_path: Path) -> None:
    saved = checkpoint(optimizer={"state": {}}, held_out=["p"])
    saved.ema = {name: tensor + 1 for name, tensor in saved.weights.items()}
    saved.save_weights(tmp_path / "c.safetensors")
    loaded = Checkpoint.load(tmp_path / "c.safetensors")
    assert (loaded.config, loaded.classes, loaded.held_out) == (CONFIG, CLASSES, ["p"])
    assert (loaded.ema, loaded.optimizer) == (None, None)
    assert all(torch.equal(loaded.weights[name], saved.ema[name]) for name in saved.ema)  # what was validated
    assert torch.equal(loaded.build().encoder.conv1.weight, saved.build().encoder.conv1.weight)


def test_its_metadata_tell_other_programs_how_to_use_it(tmp_path: Path) -> None:
    import json

    from safetensors import safe_open

    checkpoint().save_weights(tmp_path / "c.safetensors")
    with safe_open(tmp_path / "c.safetensors", framework="pt") as file:
        about = json.loads(file.metadata()["segkit"])
    assert about["classes"]["names"] == ["a", "b", "c"]
    assert len(about["classes"]["colors"]) == 3
    assert about["canvas"] == [512, 512]
    assert about["normalization"]["mean"] == pytest.approx([0.485, 0.456, 0.406])
    assert about["config"]["model"]["name"] == "lite_unet"


def test_weights_of_another_program_are_refused_with_a_way_to_use_them(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.ones(2)}, tmp_path / "c.safetensors")
    with pytest.raises(CheckpointError, match=r"without segkit's metadata.*model\.pretrained="):
        Checkpoint.load(tmp_path / "c.safetensors")
    (tmp_path / "c.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        Checkpoint.load(tmp_path / "c.safetensors")


# ---- in the background


def test_what_is_saved_in_the_background_is_the_state_at_that_time(tmp_path: Path) -> None:
    current = checkpoint(progress=Progress(step=1))
    copied = current.on_host()
    with BackgroundSaver() as saver:
        saver.start(lambda: copied.save(tmp_path / "c.pt"))
        for tensor in current.weights.values():
            tensor.zero_()
        current.progress.step = 2
    loaded = Checkpoint.load(tmp_path / "c.pt")
    assert loaded.progress.step == 1
    assert loaded.weights["network.encoder.conv1.weight"].any()


@pytest.mark.parametrize("kind", [RunFolderError, MemoryError])
def test_what_went_wrong_in_the_background_is_raised_by_the_next_call(kind: type[Exception]) -> None:
    def fail() -> None:
        raise kind("disk full")

    saver = BackgroundSaver()
    saver.start(fail)
    with pytest.raises(kind, match="disk full"):
        saver.start(lambda: None)
    saver.start(fail)
    with pytest.raises(kind, match="disk full"), saver:
        pass


@pytest.mark.parametrize(("kind", "waits"), [(RunFolderError, True), (KeyboardInterrupt, False)])
def test_an_error_in_training_waits_for_the_writing_but_a_second_ctrl_c_does_not(
    kind: type[BaseException], waits: bool
) -> None:
    go_on = threading.Event()
    done = []

    def write() -> None:
        go_on.wait(0.2)
        done.append(1)

    def save_and_fail() -> None:
        with BackgroundSaver() as saver:
            saver.start(write)
            raise kind

    with pytest.raises(kind):
        save_and_fail()
    assert bool(done) is waits
    go_on.set()


@pytest.mark.parametrize("name", ["c.pt", "c.safetensors"])
def test_where_pretrained_weights_came_from_is_kept(name: str, tmp_path: Path) -> None:
    origin = Origin("hub timm/x", "cc-by-nc-4.0")
    saved = checkpoint(pretrained=origin)
    (saved.save_weights if name.endswith("safetensors") else saved.save)(tmp_path / name)
    loaded = Checkpoint.load(tmp_path / name)
    assert loaded.pretrained == origin
    assert loaded.build().origin == origin


def test_a_file_from_before_origins_were_noted_has_none(tmp_path: Path) -> None:
    checkpoint().save(tmp_path / "c.pt")
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    del content["pretrained"]
    torch.save(content, tmp_path / "old.pt")
    assert Checkpoint.load(tmp_path / "old.pt").pretrained is None
