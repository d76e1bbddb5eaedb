"""A task's column, Table III, with its progressive lateral connections."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from .layers import ConvLayer
from .presets import Preset
from .topology import adapter_channels, classifier_map_size, column_layers, skip_map_size


class Adapter(nn.Module):
    """What a layer sees of the source columns: relu(V [alpha_j h_(i-1)^(j)]_j).

    The adapter of Rusu et al. 2016, equation 2, in its convolutional form: each source's activation is scaled by a
    learned scalar, they are concatenated, and a 1x1 convolution V reduces the channels (paper, section II.B).

    Args:
        channels: channels of layer i-1, the same in every column.
        sources: number of source columns.
        preset: how far V reduces.
    """

    def __init__(self, channels: int, sources: int, preset: Preset):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(sources))
        self.reduce = nn.Conv2d(channels * sources, adapter_channels(channels, preset), 1)
        nn.init.kaiming_normal_(self.reduce.weight, nonlinearity="relu")
        if self.reduce.bias is not None:
            nn.init.zeros_(self.reduce.bias)

    def forward(self, hidden: Sequence[torch.Tensor]) -> torch.Tensor:
        """One float (n, channels, h, w) a source to float (n, channels / reduction, h, w)."""
        scaled = torch.cat([scale * h for scale, h in zip(self.scale, hidden, strict=True)], dim=1)
        return torch.relu(self.reduce(scaled))


class DescriptorAdapter(nn.Module):
    """What the classifier sees of a foreign face descriptor: relu(V alpha d).

    The adapter of Rusu et al. 2016, equation 2, for a source that has one layer only: a vector has no map that the
    convolutions could read, so it enters where the column has vectors too.

    Args:
        dimensions: of the descriptor.
        outputs: how many numbers V reduces it to.
    """

    def __init__(self, dimensions: int, outputs: int):
        super().__init__()
        # A vector of length 1 has small numbers; this brings their mean square to 1, as an activation's.
        self.scale = nn.Parameter(torch.full((1,), dimensions**0.5))
        self.reduce = nn.Linear(dimensions, outputs)
        nn.init.kaiming_normal_(self.reduce.weight, nonlinearity="relu")
        nn.init.zeros_(self.reduce.bias)

    def forward(self, descriptors: torch.Tensor) -> torch.Tensor:
        """float (n, dimensions) of length 1 to float (n, outputs)."""
        return torch.relu(self.reduce(self.scale * descriptors))


class Column(nn.Module):
    """24 convolutions, a fully connected layer, dropout and the classifier; logits out.

    Layer i reads its own layer i-1 beside the adapter over layers i-1 of the source columns. W h + U a of the paper's
    equation is one convolution over [h, a]. Layer 1 has no adapter: what lies before it, the encoder's map, is the
    same for all columns.

    Beyond the paper, the hidden layer may read that map too, over a skip connection: 24 convolutions forget what tells
    people apart, and some of what tells emotions apart.

    Args:
        preset: widths and normalisation.
        outputs: number of labels, or an embedding's dimensions.
        sources: number of source columns.
        descriptor: dimensions of the foreign face descriptor that the classifier reads as well; 0 for none.
        skip: have the hidden layer read the encoder's map as well, averaged to 4 x 4 places.
    """

    def __init__(self, preset: Preset, outputs: int, sources: int = 0, descriptor: int = 0, skip: bool = False):
        super().__init__()
        self.skip_size = skip_map_size(preset) if skip else 0
        self.source_count = sources
        self.descriptor_dimensions = descriptor
        plans = column_layers(preset)
        last = plans[-1].outputs
        features = classifier_map_size(preset) ** 2
        self.adapters = nn.ModuleList()
        if sources:
            # One for each of layers 2 to 26: the convolutions but the first, the hidden layer and the classifier.
            widths = [plan.outputs for plan in plans] + [preset.hidden_units]
            self.adapters.extend(Adapter(width, sources, preset) for width in widths)

        def extra(width: int) -> int:
            return adapter_channels(width, preset) if sources else 0

        self.layers = nn.ModuleList(
            ConvLayer(plan, preset, extra(plan.inputs) if i else 0) for i, plan in enumerate(plans)
        )
        skipped = plans[0].inputs * self.skip_size**2
        self.hidden: nn.Module = nn.Linear((last + extra(last)) * features + skipped, preset.hidden_units)
        self.dropout = nn.Dropout(preset.dropout)
        self.foreign = DescriptorAdapter(descriptor, preset.hidden_units) if descriptor else None
        described = preset.hidden_units if descriptor else 0
        self.classifier = nn.Linear(preset.hidden_units + extra(preset.hidden_units) + described, outputs)

    def forward(
        self,
        encoded: torch.Tensor,
        sources: Sequence[Sequence[torch.Tensor]] = (),
        descriptors: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Run the column.

        Args:
            encoded: float (n, c, s, s), the encoder's map, s = 16 / the preset's shrink.
            sources: the activations that each source column's own forward returned.
            descriptors: float (n, d) of length 1, the faces by the foreign descriptor, where the column has one.

        Returns:
            logits, float (n, outputs), and the activations of layers 1 to 25 for the columns that draw on this one.

        Raises:
            ValueError: the sources or the descriptors are not those that the column was built for.
        """
        activations = self.activations(encoded, sources)
        return self._classify(activations[-1], sources, descriptors), activations

    def last_layers(
        self,
        encoded: torch.Tensor,
        last: torch.Tensor,
        sources: Sequence[Sequence[torch.Tensor]] = (),
        descriptors: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The logits of `forward` from the last convolution's map on, float (n, c, s, s).

        Of the sources' activations only the last two are read; of the encoder's map its averages over 4 x 4 places, as
        which it may come.
        """
        return self._classify(self._hide(encoded, last, sources), sources, descriptors)

    def _classify(
        self, hidden: torch.Tensor, sources: Sequence[Sequence[torch.Tensor]], descriptors: torch.Tensor | None
    ) -> torch.Tensor:
        x = self._with_lateral(self.dropout(hidden), len(self.layers) + 1, sources).flatten(1)
        given = 0 if descriptors is None else descriptors.shape[1]
        if given != self.descriptor_dimensions:
            raise ValueError(f"the column reads a descriptor of {self.descriptor_dimensions} numbers, it got {given}")
        if self.foreign is not None and descriptors is not None:
            x = torch.cat([x, self.foreign(descriptors)], dim=1)
        return self.classifier(x)

    def activations(self, encoded: torch.Tensor, sources: Sequence[Sequence[torch.Tensor]] = ()) -> list[torch.Tensor]:
        """The activations of layers 1 to 25, which no foreign descriptor reaches; arguments as of `forward`."""
        if len(sources) != self.source_count:
            raise ValueError(f"the column was built for {self.source_count} source columns, it got {len(sources)}")
        x, activations = encoded, []
        for i, layer in enumerate(self.layers):
            x = layer(self._with_lateral(x, i, sources))
            activations.append(x)
        activations.append(self._hide(encoded, x, sources))
        return activations

    def _hide(
        self, encoded: torch.Tensor, last: torch.Tensor, sources: Sequence[Sequence[torch.Tensor]]
    ) -> torch.Tensor:
        return torch.relu(self.hidden(self.hidden_inputs(encoded, last, sources)))[:, :, None, None]

    def freeze_convolutions(self) -> None:
        """Have the convolutions and what is lateral to them stay as they are; the last two layers go on learning."""
        self.layers.requires_grad_(False)
        self.adapters[:-2].requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Column":
        """Training mode for what may be trained; frozen convolutions keep their batch statistics."""
        super().train(mode)
        for layer in self.layers:
            if not any(parameter.requires_grad for parameter in layer.parameters()):
                layer.eval()
        return self

    def hidden_inputs(
        self, encoded: torch.Tensor, last: torch.Tensor, sources: Sequence[Sequence[torch.Tensor]]
    ) -> torch.Tensor:
        """What the hidden layer reads, float (n, inputs): the last convolution's map, then what the skip connection
        brings, then what is lateral."""
        inputs = [last.flatten(1)]
        if self.skip_size:
            inputs.append(F.adaptive_avg_pool2d(encoded, self.skip_size).flatten(1))
        if sources:
            inputs.append(self._lateral(len(self.layers), sources).flatten(1))
        return torch.cat(inputs, dim=1)

    def _with_lateral(self, x: torch.Tensor, layer: int, sources: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
        """The input of a layer: its own column's x, and the adapter over the sources' activations before it."""
        if not sources or layer == 0:
            return x
        return torch.cat([x, self._lateral(layer, sources)], dim=1)

    def _lateral(self, layer: int, sources: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
        place = layer - 2 - len(self.layers)  # from the end, for of the last ones there may be no others
        return self.adapters[layer - 1]([activations[place] for activations in sources])
