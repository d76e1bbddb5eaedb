"""Where a column looks: guided backpropagation, Grad-CAM and guided Grad-CAM, by Captum (paper, Figure 4)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import GuidedBackprop, LayerAttribution, LayerGradCam
from torch import nn

from ..bundle.bundle import Bundle
from ..bundle.manifest import ColumnRecord
from ..bundle.network import build_network
from ..networks.progressive import ProgressiveNetwork
from ..networks.topology import INPUT_SIZE
from .guidable import GuidableLayer, make_guidable

ENCODER = "encoder"  # the layer that is the encoder's last convolution; others are called by their column's task
OWN = "own"  # the layer that is the asked column's last convolution
CHUNK = 16  # faces at once


@dataclass(frozen=True)
class Maps:
    """What n faces were judged by, float32 (n, 128, 128) each.

    Attributes:
        guided_backprop: the gradient of the class's logit by the crop, where only what speaks for the class passes
            each ReLU (Springenberg et al. 2015); signed. The same for every layer. It shows what the encoder responds
            to, and hardly changes with the class or with the column's weights (Adebayo et al. 2018).
        grad_cam: the layer's maps, weighted by the mean gradient of the logit by each, rectified and enlarged
            (Selvaraju et al. 2017); not negative, in units of the logit.
        guided_grad_cam: their product.
    """

    guided_backprop: np.ndarray
    grad_cam: np.ndarray
    guided_grad_cam: np.ndarray

    def __getitem__(self, faces) -> "Maps":
        return Maps(self.guided_backprop[faces], self.grad_cam[faces], self.guided_grad_cam[faces])

    def average(self) -> "Maps":
        """The mean over the faces, of magnitudes, as one map."""
        return Maps(
            np.abs(self.guided_backprop).mean(0, keepdims=True),
            self.grad_cam.mean(0, keepdims=True),
            np.abs(self.guided_grad_cam).mean(0, keepdims=True),
        )


class Explainer:
    """A bundle's columns, asked where they look.

    Args:
        bundle: needs columns that classify.
        network: other weights than the bundle's, such as randomised ones; it is changed.
    """

    def __init__(self, bundle: Bundle, network: ProgressiveNetwork | None = None):
        self.bundle = bundle
        self.network = make_guidable(network or build_network(bundle)).requires_grad_(False).eval()

    @property
    def tasks(self) -> list[str]:
        """The columns that can be explained."""
        return explainable(self.bundle)

    def column(self, task: str) -> ColumnRecord:
        """ValueError where there is no such column, or it cannot be explained."""
        if task not in self.tasks:
            raise ValueError(
                f"'{task}' is no column that can be explained; {self.bundle.root} has {', '.join(self.tasks) or 'none'}"
                " (an embedding has no classes, and a column with a foreign descriptor sees more than the crop)"
            )
        return self.bundle.manifest.column(task)

    def layer(self, task: str) -> str:
        """Through whose last convolution all passes that a column judges by: its own, or the encoder's where a skip
        connection goes past its own."""
        return ENCODER if self.column(task).skip else task

    @torch.no_grad()
    def probabilities(self, crops: np.ndarray, task: str) -> np.ndarray:
        """float32 (n, classes), calibrated, of crops as `explain` takes them."""
        logits = self.network(torch.from_numpy(crops), [task])[task]
        return (logits / self.column(task).temperature).softmax(1).numpy()

    def explain(self, crops: np.ndarray, task: str, target: int | Sequence[int], layer: str | None = None) -> Maps:
        """The maps of n faces.

        Args:
            crops: float32 (n, 1, 128, 128), normalised as the bundle says.
            task: the column whose judgement is explained.
            target: the class that is asked about, or one a face: an index into the column's labels.
            layer: whose last convolution Grad-CAM is taken of: "encoder", "own", or the task of the column itself or of
                one that it draws on; default `layer`.

        Raises:
            ValueError: there is no such column, class or layer, or the crops are of another shape.
        """
        targets = [target] * len(crops) if isinstance(target, int) else [int(one) for one in target]
        labels = self.column(task).labels
        if len(targets) != len(crops) or not all(0 <= one < len(labels) for one in targets):
            raise ValueError(f"target: expected 0 to {len(labels) - 1}, one or {len(crops)} of them, got {targets}")
        if crops.shape[1:] != (1, INPUT_SIZE, INPUT_SIZE) or not len(crops):
            raise ValueError(f"crops: expected (n, 1, {INPUT_SIZE}, {INPUT_SIZE}), got {crops.shape}")
        convolution = self._last_convolution(task, layer or self.layer(task))
        judged = _Judged(self.network, task)
        parts = []
        for start in range(0, len(crops), CHUNK):
            part = torch.from_numpy(np.ascontiguousarray(crops[start : start + CHUNK], np.float32))
            parts.append(_explain(judged, convolution, part, targets[start : start + CHUNK]))
        return Maps(*(np.concatenate(maps) for maps in zip(*parts, strict=True)))

    def _last_convolution(self, task: str, layer: str) -> nn.Module:
        known = sorted(self.network.with_sources([task]))
        layer = task if layer == OWN else layer
        if layer not in (ENCODER, *known):
            raise ValueError(f"layer '{layer}': '{task}' has no such layer; it has {', '.join([ENCODER, *known])}")
        part = self.network.encoder if layer == ENCODER else self.network.columns[layer]
        return [module for module in part.modules() if isinstance(module, GuidableLayer)][-1].relu


def explainable(bundle: Bundle) -> list[str]:
    """The columns that can be explained: those with classes that see nothing but the crop."""
    return [column.task for column in bundle.manifest.columns if column.labels and column.descriptor is None]


class _Judged(nn.Module):
    """A network as Captum wants it: crops in, a column's logits out."""

    def __init__(self, network: ProgressiveNetwork, task: str):
        super().__init__()
        self.network, self.task = network, task

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return self.network(crops, [self.task])[self.task]


def _explain(
    judged: nn.Module, convolution: nn.Module, crops: torch.Tensor, targets: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")  # which is what is wanted
        guided = GuidedBackprop(judged).attribute(crops.requires_grad_(), targets)
    cam = LayerGradCam(judged, convolution).attribute(crops, targets, relu_attributions=True)
    cam = LayerAttribution.interpolate(cam, crops.shape[-2:], "bilinear")
    maps = [guided, cam, guided * cam]
    first, second, third = (one.detach()[:, 0].numpy() for one in maps)
    return first, second, third
