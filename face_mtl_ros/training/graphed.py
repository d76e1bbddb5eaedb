"""Training on a GPU without waiting for Python: a step's kernels as CUDA graphs, what it reads made on another stream.

`compact` has about a hundred layers so small that launching their kernels one by one takes several times as long as
running them.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from . import distributed


def graphed(module: nn.Module, examples: Sequence[torch.Tensor]) -> nn.Module:
    """The module itself, on a GPU with its forward and its backward pass as one CUDA graph each.

    Args:
        module: in the mode in which it will run; all of its parameters take part.
        examples: arguments of the shapes, dtypes and devices of all later ones.
    """
    if not examples[0].is_cuda or distributed.world() > 1:
        return module
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    torch.cuda.make_graphed_callables(module, tuple(examples))  # changes the module's forward
    with torch.no_grad():
        for name, value in module.named_buffers():  # warming up has changed the batch statistics
            value.copy_(buffers[name])
    return module


class SideStream:
    """A context whose work a GPU does beside that of the current stream, until `join` has the latter wait for it."""

    def __init__(self, device: torch.device):
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self._stream:
            self._stream.wait_stream(torch.cuda.current_stream())

    def __call__(self) -> Any:
        return torch.cuda.stream(self._stream) if self._stream else nullcontext()

    def join(self, made: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """The tensors, made within the context, for use on the current stream."""
        if self._stream:
            current = torch.cuda.current_stream()
            current.wait_stream(self._stream)
            for tensor in made:
                tensor.record_stream(current)
        return made
