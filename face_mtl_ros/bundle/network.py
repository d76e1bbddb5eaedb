"""Bundles to torch networks and back. The only file of this folder that needs torch."""

import numpy as np
import torch

from ..networks.progressive import ProgressiveNetwork
from .bundle import PROTOTYPES, Bundle, Tensors


def build_network(bundle: Bundle) -> ProgressiveNetwork:
    """The bundle's network with its weights, float32, frozen, in evaluation mode."""
    network = ProgressiveNetwork(bundle.preset)
    network.encoder.load_state_dict(to_torch(bundle.encoder))
    for column in bundle.manifest.columns:
        network.add_column(column.task, column.outputs, column.sources, column.shape[2], skip=column.skip)
        weights = {name: tensor for name, tensor in bundle.columns[column.task].items() if name != PROTOTYPES}
        network.columns[column.task].load_state_dict(to_torch(weights))
    return network.requires_grad_(False).eval()


def to_torch(tensors: Tensors) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()}


def to_numpy(module: torch.nn.Module) -> Tensors:
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in module.state_dict().items()}
