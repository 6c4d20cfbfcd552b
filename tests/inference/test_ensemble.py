import torch

from segkit.classes import Classes
from segkit.inference.ensemble import Ensemble, together
from segkit.inference.torch_backend import TorchBackend
from segkit.models.segmenter import Segmenter


class Fixed(Segmenter):
    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__(torch.nn.Identity(), stride=1, mean=(0, 0, 0), std=(1, 1, 1))
        self.logits = logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits


def backends(logits: torch.Tensor) -> list[TorchBackend]:
    classes = Classes.build(["a", "b", "c", "d", "e"])
    return [TorchBackend(Fixed(each), classes, (4, 6), torch.float32) for each in logits]


def test_scores_are_the_logarithm_of_the_mean_probability() -> None:
    logits = torch.randn(3, 2, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    scores = Ensemble(tuple(backends(logits)))(torch.zeros(2, 3, 4, 6))
    torch.testing.assert_close(scores.exp(), logits.softmax(dim=2).mean(dim=0))


def test_bf16_logits_are_averaged_in_float32() -> None:
    logits = torch.randn(2, 1, 5, 4, 6).bfloat16()
    assert Ensemble(tuple(backends(logits)))(torch.zeros(1, 3, 4, 6)).dtype == torch.float32


def test_a_single_model_stays_as_it_is_and_several_speak_of_the_same_classes() -> None:
    one, other = backends(torch.zeros(2, 1, 5, 4, 6))
    assert together([one]) is one
    ensemble = together([one, other])
    assert isinstance(ensemble, Ensemble)
    assert (ensemble.classes, ensemble.canvas_hw, ensemble.device) == (one.classes, (4, 6), torch.device("cpu"))
