import torch

from segkit.inference.ensemble import Ensemble, together
from segkit.models.segmenter import Segmenter


class Fixed(Segmenter):
    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__(torch.nn.Identity(), stride=1, mean=(0, 0, 0), std=(1, 1, 1))
        self.logits = logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits


def test_scores_are_the_logarithm_of_the_mean_probability() -> None:
    logits = torch.randn(3, 2, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    scores = Ensemble([Fixed(each) for each in logits])(torch.zeros(2, 3, 4, 6))
    torch.testing.assert_close(scores.exp(), logits.softmax(dim=2).mean(dim=0))


def test_bf16_logits_are_averaged_in_float32() -> None:
    logits = torch.randn(2, 1, 5, 4, 6).bfloat16()
    assert Ensemble([Fixed(each) for each in logits])(torch.zeros(1, 3, 4, 6)).dtype == torch.float32


def test_a_single_model_stays_as_it_is() -> None:
    model = Fixed(torch.zeros(1))
    assert together([model]) is model
    assert isinstance(together([model, model]), Ensemble)
