import pytest
import torch
from torch import nn

from segkit.errors import TrainingDiverged
from segkit.runtime.ranks import Ranks
from segkit.training.divergence import SKIPPED_IN_A_ROW, Divergence

CPU = torch.device("cpu")


def watch() -> Divergence:
    return Divergence(CPU, Ranks())


def test_finite_losses_are_nothing_to_report() -> None:
    divergence = watch()
    for step in range(3):
        divergence.record(step, torch.tensor(1e30), lr=0.1, names=["a"])
    assert not divergence.found()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_the_first_bad_step_is_named_with_its_images_though_it_is_noticed_later(value: float) -> None:
    divergence = watch()
    for step, loss in enumerate([1.0, 2.0, value, 3.0, float("nan")]):
        divergence.record(step, torch.tensor(loss), lr=0.1 * step, names=[f"picture_{step}"])
    assert divergence.found()
    with pytest.raises(TrainingDiverged, match=r"^step 3: .* at lr 0\.2, expected .*Images of this batch: picture_2$"):
        raise divergence.explain()


class TwoRanks(Ranks):
    """Two ranks, of which the other one's answers are known."""

    def __init__(self, other: object) -> None:
        super().__init__(size=2)
        object.__setattr__(self, "other", other)

    def gather(self, value: object) -> list[object]:  # type: ignore[override]
        return [value, self.other]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("mine", "other"), [(1.0, (0, 0.5, ["theirs"])), (float("nan"), None)])
def test_a_loss_that_is_bad_on_one_rank_is_explained_on_both(mine: float, other: object) -> None:
    divergence = Divergence(CPU, TwoRanks(other))
    divergence.record(0, torch.tensor(mine), lr=0.5, names=["mine"])
    divergence.found()
    name = "theirs" if other else "mine"
    with pytest.raises(TrainingDiverged, match=rf"^step 1: .* at lr 0\.5, .*Images of this batch: {name}$"):
        raise divergence.explain()


def test_a_run_that_skips_too_much_in_a_row_stops() -> None:
    divergence = watch()
    for step in range(SKIPPED_IN_A_ROW - 1):
        assert f"step {step + 1}:" in divergence.skip(step, lr=0.1, names=["a"])
    divergence.record(50, torch.tensor(1.0), lr=0.1, names=["a"])
    for step in range(SKIPPED_IN_A_ROW - 1):
        divergence.skip(step, lr=0.1, names=["a"])
    with pytest.raises(TrainingDiverged, match=f"for the {SKIPPED_IN_A_ROW}th time in a row"):
        divergence.skip(99, lr=0.1, names=["a"])


def test_weights_that_are_no_numbers_are_refused() -> None:
    model = nn.Linear(2, 2)
    watch().check_weights(model, 5)
    model.bias.data[0] = float("nan")
    with pytest.raises(TrainingDiverged, match=r"^step 5: the gradient made weights"):
        watch().check_weights(model, 5)
