"""Training as CUDA graphs: the same steps as one layer after another. Needs a GPU; elsewhere only the fallback runs."""

from copy import deepcopy

import pytest
import torch

from face_mtl_ros.networks.column import Column
from face_mtl_ros.networks.encoder import Encoder
from face_mtl_ros.networks.presets import PRESETS
from face_mtl_ros.training.graphed import SideStream, graphed
from face_mtl_ros.training.pretraining import MultitaskLoss

COMPACT = PRESETS["compact"]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def loss_on(device):
    torch.manual_seed(0)
    heads = {"emotion": Column(COMPACT, 8), "embedding": Column(COMPACT, 128)}
    for head in heads.values():
        head.dropout.p = 0.0
    places = {"emotion": torch.arange(0, 16, 2, device=device), "embedding": torch.arange(16, device=device)}
    return MultitaskLoss(Encoder(COMPACT), heads, places).to(device).train()


def batch_on(device, seed):
    torch.manual_seed(seed)
    crops = torch.randn(16, 1, 64, 64).to(memory_format=torch.channels_last)
    votes = torch.rand(8, 8).softmax(1)
    descriptors = torch.nn.functional.normalize(torch.randn(16, 128))
    return [tensor.to(device) for tensor in (crops, votes, descriptors)]


def test_without_a_gpu_it_is_the_module_itself():
    module = loss_on("cpu")
    assert graphed(module, batch_on("cpu", 0)) is module
    side = SideStream(torch.device("cpu"))
    with side():
        made = [torch.ones(2)]
    assert side.join(made) is made


@needs_gpu
def test_a_graphed_loss_has_the_losses_gradients_and_statistics_of_the_eager_one():
    eager = loss_on("cuda")
    captured = graphed(deepcopy(eager), batch_on("cuda", 0))
    for seed in range(1, 4):
        losses = []
        for module in (eager, captured):
            module.zero_grad(set_to_none=True)
            losses.append(module(*batch_on("cuda", seed)))
            losses[-1].backward()
        assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-2)
        for (name, own), other in zip(eager.named_parameters(), captured.parameters(), strict=True):
            assert (own.grad - other.grad).norm() <= 0.1 * own.grad.norm() + 1e-4, name
        for (name, own), other in zip(eager.named_buffers(), captured.buffers(), strict=True):
            torch.testing.assert_close(own.float(), other.float(), rtol=0.05, atol=0.02, msg=name)


@needs_gpu
def test_dropout_differs_from_step_to_step_and_follows_the_seed():
    module = loss_on("cuda")
    module.heads["emotion"].dropout.p = 0.5
    captured, batch = graphed(module, batch_on("cuda", 0)), batch_on("cuda", 1)

    def loss(seed):
        torch.manual_seed(seed)
        return captured(*batch).item()

    assert loss(1) != loss(2)
    assert loss(1) == pytest.approx(loss(1), rel=1e-3)
