import pytest

from segkit.models.origin import Origin, hub_origin


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("cc-by-nc-4.0", True), ("CC BY-NC-SA 4.0", True), ("fair-noncommercial-research-license", True),
        ("nvidia-source-code-license-non-commercial", True), ("apache-2.0", False), ("mit", False), ("unknown", False),
        ("nvidia-open-model-license", False), ("cc-by-4.0", False),
    ],
)  # fmt: skip
def test_a_licence_that_names_itself_non_commercial_is_found(licence: str, expected: bool) -> None:
    assert Origin("hub x", licence).is_non_commercial is expected


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        ("tu-tf_efficientnet_lite0", "hub timm/tf_efficientnet_lite0.in1k, licence apache-2.0"),
        ("tu-convnextv2_tiny", "hub timm/convnextv2_tiny.fcmae_ft_in22k_in1k, licence cc-by-nc-4.0"),
        ("resnet18", "hub smp-hub/resnet18.imagenet, licence unknown"),
        ("mit_b0", "hub smp-hub/mit_b0.imagenet, licence nvidia-source-code-license-non-commercial"),
    ],
)
def test_the_hubs_weights_have_an_origin(encoder: str, expected: str) -> None:
    assert str(hub_origin(encoder)) == expected


def test_an_encoder_without_weights_has_none() -> None:
    assert hub_origin("tu-resnet200") is None


def test_an_origin_survives_as_plain_values() -> None:
    origin = Origin("hub x", "mit")
    assert Origin.from_dict(origin.to_dict()) == origin
    assert Origin.from_dict(None) is None
