"""A hidden layer that standardises its inputs while it learns, and a plain one afterwards that says the same."""

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which the train extra installs")

from face_mtl_ros.networks.column import Column  # noqa: E402
from face_mtl_ros.networks.presets import PRESETS  # noqa: E402
from face_mtl_ros.networks.standardization import fold_standardization, standardize_hidden  # noqa: E402


def test_what_it_reads_is_standardised_and_folding_changes_no_answer():
    torch.manual_seed(0)
    column = Column(PRESETS["compact"], 5, skip=True).eval()
    names = list(column.state_dict())
    encoded = 3 * torch.rand(40, 64, 8, 8) * torch.rand(64, 1, 1)
    with torch.no_grad():
        inputs = column.hidden_inputs(encoded, column.activations(encoded)[-2], [])
        standardize_hidden(column, inputs)
        column.hidden.linear.register_forward_pre_hook(lambda _, given: read.append(given[0]))
        read = []
        before, _ = column(encoded)
    varied = inputs.std(0) > 0.01  # a unit that always says the same stays as it is
    torch.testing.assert_close(read[0].mean(0), torch.zeros(inputs.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(read[0].std(0)[varied], torch.ones(int(varied.sum())), atol=1e-3, rtol=0)
    fold_standardization(column)
    assert list(column.state_dict()) == names
    with torch.no_grad():
        torch.testing.assert_close(column(encoded)[0], before, atol=1e-4, rtol=1e-4)


def test_folding_a_plain_layer_leaves_it():
    column = Column(PRESETS["compact"], 5)
    layer = column.hidden
    fold_standardization(column)
    assert column.hidden is layer
