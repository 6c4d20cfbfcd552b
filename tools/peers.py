"""What segkit is measured against: plain versions of the usual pipelines, and the field's libraries as they come.

"Usual" is the widely copied UNet/VOC code: PIL, float64, np.eye, losses over flattened NHWC, masks written and read
again. Nothing here is used by segkit.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import Dataset

Pair = tuple[Path, Path]  # a JPEG and its palette PNG
Hw = tuple[int, int]
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

# ---- data: decode, augment, and what is handed to the main process


class UsualDataset(Dataset[Any]):
    """PIL decode, bicubic resize of the whole image, paste, HSV by look-up, float64, one-hot by np.eye."""

    def __init__(self, pairs: Sequence[Pair], canvas_hw: Hw, num_classes: int) -> None:
        self.pairs, self.canvas_hw, self.num_classes = pairs, canvas_hw, num_classes

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        image_path, mask_path = self.pairs[index % len(self.pairs)]
        image, mask = self._place(Image.open(image_path).convert("RGB"), Image.open(mask_path))
        pixels = np.transpose((np.array(_jitter(image), np.float64) / 255 - MEAN) / STD, (2, 0, 1))
        ids = np.array(mask)
        ids[ids >= self.num_classes] = self.num_classes
        onehot = np.eye(self.num_classes + 1)[ids.reshape(-1)].reshape(*self.canvas_hw, self.num_classes + 1)
        return pixels, ids, onehot

    def _place(self, image: Image.Image, mask: Image.Image) -> tuple[Image.Image, Image.Image]:
        height, width = self.canvas_hw
        ratio = image.width / image.height * _uniform(0.7, 1.3) / _uniform(0.7, 1.3)
        scale = _uniform(0.25, 2)
        size = (int(scale * height * ratio), int(scale * height)) if ratio < 1 else (
            int(scale * width), int(scale * width / ratio)
        )  # fmt: skip
        image, mask = image.resize(size, Image.Resampling.BICUBIC), mask.resize(size, Image.Resampling.NEAREST)
        if _uniform(0, 1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        corner = int(_uniform(0, width - size[0])), int(_uniform(0, height - size[1]))
        canvas, ids = Image.new("RGB", (width, height), (128, 128, 128)), Image.new("L", (width, height), 255)
        canvas.paste(image, corner)
        ids.paste(mask, corner)
        return canvas, ids


def _uniform(low: float, high: float) -> float:
    return float(np.random.uniform(low, high))


def _jitter(image: Image.Image) -> np.ndarray:
    pixels = np.array(image, np.uint8)
    factors = np.random.uniform(-1, 1, 3) * [0.1, 0.7, 0.3] + 1
    hue, saturation, value = cv2.split(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV))
    levels = np.arange(256)
    hue = cv2.LUT(hue, ((levels * factors[0]) % 180).astype(np.uint8))
    saturation = cv2.LUT(saturation, np.clip(levels * factors[1], 0, 255).astype(np.uint8))
    value = cv2.LUT(value, np.clip(levels * factors[2], 0, 255).astype(np.uint8))
    return cv2.cvtColor(cv2.merge((hue, saturation, value)), cv2.COLOR_HSV2RGB)


def usual_collate(samples: Sequence[tuple[np.ndarray, ...]]) -> tuple[torch.Tensor, ...]:
    images, masks, onehots = (np.array(arrays) for arrays in zip(*samples, strict=True))
    return torch.from_numpy(images).float(), torch.from_numpy(masks).long(), torch.from_numpy(onehots).float()


class AlbumentationsDataset(Dataset[Any]):
    """albumentations on OpenCV pixels, uint8 out; without a stretch of the aspect ratio, for which it has no step."""

    def __init__(self, pairs: Sequence[Pair], canvas_hw: Hw) -> None:
        import albumentations as A

        self.pairs = pairs
        self.transform = A.Compose(
            [
                A.RandomScale((0.256 - 1, 2.048 - 1), p=1),  # 0.25 to 2 times what fits 500x375 to 512x512
                A.PadIfNeeded(*canvas_hw, border_mode=cv2.BORDER_CONSTANT, fill=128, fill_mask=255),
                A.RandomCrop(*canvas_hw),
                A.HorizontalFlip(p=0.5),
                A.HueSaturationValue(9, 89, 38, p=1),
            ]
        )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image_path, mask_path = self.pairs[index % len(self.pairs)]
        pixels = cv2.imread(str(image_path))
        assert pixels is not None, image_path
        image = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        done = self.transform(image=image, mask=np.array(Image.open(mask_path)))
        return torch.from_numpy(done["image"].transpose(2, 0, 1).copy()), torch.from_numpy(done["mask"])


class TorchvisionDataset(Dataset[Any]):
    """torchvision.transforms.v2 on uint8 tensors."""

    def __init__(self, pairs: Sequence[Pair], canvas_hw: Hw) -> None:
        from torchvision import tv_tensors
        from torchvision.transforms import v2

        self.pairs = pairs
        self.image, self.mask = tv_tensors.Image, tv_tensors.Mask
        self.transform = v2.Compose(
            [
                v2.ScaleJitter(canvas_hw, (0.25, 2.0)),
                v2.RandomCrop(canvas_hw, pad_if_needed=True, fill={tv_tensors.Image: 128, tv_tensors.Mask: 255}),
                v2.RandomHorizontalFlip(),
                v2.ColorJitter(brightness=0.3, saturation=0.7, hue=0.05),
            ]
        )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        from torchvision.io import decode_image

        image_path, mask_path = self.pairs[index % len(self.pairs)]
        mask = torch.from_numpy(np.array(Image.open(mask_path)))
        image, mask = self.transform(self.image(decode_image(str(image_path))), self.mask(mask))
        return image.as_subclass(torch.Tensor), mask.as_subclass(torch.Tensor)


# ---- losses


def usual_cross_entropy(logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Flatten to [BHW, C] by a copy, reduce by hand."""
    num_classes = logits.shape[1]
    flat = logits.transpose(1, 2).transpose(2, 3).contiguous().view(-1, num_classes)
    return F.cross_entropy(flat, target.view(-1).long(), weight=weights, ignore_index=255)


def usual_focal(logits: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Flatten, cross-entropy without reduction, then exp and power; weights outside, so that the results compare."""
    num_classes = logits.shape[1]
    flat = logits.transpose(1, 2).transpose(2, 3).contiguous().view(-1, num_classes)
    ids = target.view(-1).long()
    logpt = -F.cross_entropy(flat, ids, ignore_index=255, reduction="none")
    by_class = weights[ids.where(ids != 255, 0)] * (ids != 255)
    return -(by_class * (1 - torch.exp(logpt)) ** 2 * logpt).sum() / by_class.sum()


# ---- confusion matrix


def usual_confusion(target: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    truth, predicted = target.flatten(), prediction.flatten()
    keep = (truth >= 0) & (truth < num_classes)
    codes = num_classes * truth[keep].astype(int) + predicted[keep]
    return np.bincount(codes, minlength=num_classes**2).reshape(num_classes, num_classes)


# ---- around the forward pass. `forward` takes float32 [1, 3, H, W] to logits [1, C, H, W]

Forward = Callable[[torch.Tensor], torch.Tensor]


def usual_segment(image: Image.Image, forward: Forward, canvas_hw: Hw) -> np.ndarray:
    """Letterbox by bicubic resize, softmax over the last axis, cut, resize the probabilities, argmax."""
    height, width = canvas_hw
    scale = min(width / image.width, height / image.height)
    inner_width, inner_height = int(image.width * scale), int(image.height * scale)
    canvas = Image.new("RGB", (width, height), (128, 128, 128))
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    canvas.paste(image.resize((inner_width, inner_height), Image.Resampling.BICUBIC), (left, top))
    pixels = np.transpose((np.array(canvas, np.float32) / 255 - MEAN) / STD, (2, 0, 1))[None]
    with torch.no_grad():
        logits = forward(torch.from_numpy(pixels).float())[0]
    return usual_mask(logits, (top, left, inner_height, inner_width), (image.height, image.width))


def usual_mask(logits: torch.Tensor, box: tuple[int, int, int, int], size_hw: Hw) -> np.ndarray:
    top, left, height, width = box
    probabilities = F.softmax(logits.permute(1, 2, 0), dim=-1).cpu().numpy()
    probabilities = probabilities[top : top + height, left : left + width]
    return cv2.resize(probabilities, size_hw[::-1], interpolation=cv2.INTER_LINEAR).argmax(axis=-1)


def usual_predict(path: Path, forward: Forward, output: Path, colors: np.ndarray, canvas_hw: Hw) -> None:
    """Write a mask and a blend, both as PNG by Pillow."""
    image = Image.open(path).convert("RGB")
    mask = usual_segment(image, forward, canvas_hw)
    painted = np.reshape(colors[np.reshape(mask, [-1])], [*mask.shape, 3])
    Image.fromarray(mask.astype(np.uint8)).save(output / f"{path.stem}_mask.png")
    Image.blend(image, Image.fromarray(np.uint8(painted)), 0.7).save(output / f"{path.stem}.png")


def usual_evaluate(
    pairs: Sequence[Pair], forward: Forward, output: Path, canvas_hw: Hw, num_classes: int
) -> np.ndarray:
    """Write every prediction as PNG, then read them and the labels again, and count."""
    for image_path, _ in pairs:
        mask = usual_segment(Image.open(image_path).convert("RGB"), forward, canvas_hw)
        Image.fromarray(mask.astype(np.uint8)).save(output / f"{image_path.stem}.png")
    total = np.zeros((num_classes, num_classes))
    for image_path, mask_path in pairs:
        prediction = np.array(Image.open(output / f"{image_path.stem}.png"))
        total += usual_confusion(np.array(Image.open(mask_path)), prediction, num_classes)
    return total
