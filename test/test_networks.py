"""The networks against the paper's Tables I and III, and the promise of progressive learning."""

import pytest

torch = pytest.importorskip("torch", reason="networks need torch, which the train extra installs")

from face_mtl_ros.networks.column import Column  # noqa: E402
from face_mtl_ros.networks.cost import flops, parameters  # noqa: E402
from face_mtl_ros.networks.encoder import Encoder  # noqa: E402
from face_mtl_ros.networks.presets import PRESETS  # noqa: E402
from face_mtl_ros.networks.progressive import ProgressiveNetwork  # noqa: E402
from face_mtl_ros.networks.shapes import column_shapes, encoder_shapes  # noqa: E402
from face_mtl_ros.vision.alignment import normalize  # noqa: E402

PAPER, COMPACT = PRESETS["paper"], PRESETS["compact"]

# Table I: type, filters, output size of each layer up to the 256 x 16 x 16 map.
TABLE_I = (
    [("conv", 64, 128)] * 2
    + [("strided", 64, 64)]
    + [("conv", 128, 64)] * 2
    + [("strided", 128, 32)]
    + [("conv", 128, 32)] * 3
    + [("strided", 128, 16)]
    + [("conv", 256, 16)] * 3
)
# Table III: filters and output size of each convolution, its pooling included.
TABLE_III = (
    ([(128, 16)] * 3 + [(256, 16)] * 3) * 2
    + [(128, 16)] * 3
    + [(256, 16)] * 2
    + [(256, 8)]
    + [(128, 8)] * 3
    + [(256, 8)] * 2
    + [(256, 4)]
)


def test_encoder_is_table_i():
    x, found = torch.zeros(1, 1, 128, 128), []
    encoder = Encoder(PAPER).eval()
    for layer in encoder.layers:
        assert layer.conv.kernel_size == (3, 3)
        x = layer(x)
        found.append(("strided" if layer.conv.stride == (2, 2) else "conv", x.shape[1], x.shape[2]))
    assert found == TABLE_I


def test_column_is_table_iii():
    x, found = torch.zeros(1, 256, 16, 16), []
    column = Column(PAPER, outputs=50).eval()
    for layer in column.layers:
        assert layer.conv.kernel_size == (3, 3)
        x = layer(x)
        found.append(tuple(x.shape[1:3]))
    assert found == TABLE_III
    assert (column.hidden.in_features, column.hidden.out_features) == (256 * 4 * 4, 200)
    assert (column.classifier.in_features, column.classifier.out_features) == (200, 50)


def test_compact_has_the_same_layers_at_a_quarter_of_the_channels_and_half_the_size():
    encoder, column = Encoder(COMPACT).eval(), Column(COMPACT, outputs=50).eval()
    x, found = torch.zeros(1, 1, 64, 64), []
    for layer in encoder.layers:
        x = layer(x)
        found.append(("strided" if layer.conv.stride == (2, 2) else "conv", x.shape[1] * 4, x.shape[2] * 2))
    assert found == TABLE_I
    found = []
    for layer in column.layers:
        x = layer(x)
        found.append((x.shape[1] * 4, x.shape[2] * 2))
    assert found == TABLE_III
    assert (column.hidden.in_features, column.hidden.out_features) == (64 * 2 * 2, 200)


def test_compact_shrinks_a_crop_as_training_does():
    encoder = Encoder(COMPACT).eval()
    torch.manual_seed(0)
    crops = torch.nn.functional.interpolate(torch.rand(3, 1, 32, 32), size=128) * 150 + torch.rand(3, 1, 128, 128) * 20
    small = torch.nn.functional.avg_pool2d(crops, 2)
    torch.testing.assert_close(encoder(normalize(crops)), encoder(normalize(small)), atol=1e-4, rtol=1e-4)


def test_size_of_the_whole():
    """Four columns of `paper` are about 22 GFLOP and 46 million parameters a face, `compact` 0.35 GFLOP."""
    columns = [(8, 0), (8, 1), (2, 2), (50, 3)]
    assert parameters(PAPER, columns) / 1e6 == pytest.approx(46.5, abs=1)
    assert flops(PAPER, columns) / 1e9 == pytest.approx(22, abs=0.5)
    assert flops(COMPACT, columns) / 1e9 == pytest.approx(0.35, abs=0.01)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize("sized", [(7, 0), (7, 1), (7, 3), (7, 0, 5), (7, 2, 128), (7, 0, 0, True), (7, 2, 5, True)])
def test_shapes_without_torch_are_those_of_the_modules(preset, sized):
    encoder = {name: tuple(value.shape) for name, value in Encoder(preset).state_dict().items()}
    column = Column(preset, *sized)
    assert encoder == encoder_shapes(preset)
    assert {name: tuple(value.shape) for name, value in column.state_dict().items()} == column_shapes(preset, *sized)
    learned = sum(p.numel() for p in column.parameters())
    assert parameters(preset, [sized]) - parameters(preset, []) == learned


def test_a_descriptor_costs_its_two_matrices():
    hidden = COMPACT.hidden_units
    assert flops(COMPACT, [(8, 2, 128)]) - flops(COMPACT, [(8, 2)]) == 2 * (128 * hidden + hidden * 8)


def small_network():
    torch.manual_seed(0)
    network = ProgressiveNetwork(COMPACT)
    network.add_column("emotion", 8)
    network.add_column("gender", 2, ["emotion"])
    return network


def test_adding_and_training_a_column_leaves_older_outputs_bit_identical():
    network = small_network().eval()
    crops = torch.randn(1, 1, 128, 128)
    before = {task: logits.clone() for task, logits in network(crops).items()}
    network.add_column("age", 8, ["emotion", "gender"])
    network.train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    two = torch.randn(2, 1, 128, 128)  # batch statistics need two
    network(two, ["age"])["age"].square().mean().backward()
    optimizer.step()
    after = network.eval()(crops)
    assert list(after) == ["emotion", "gender", "age"]
    for task, logits in before.items():
        assert torch.equal(after[task], logits), task


def test_only_the_newest_column_is_trained():
    network = small_network().train()
    trainable = {name.split(".")[1] for name, p in network.named_parameters() if p.requires_grad}
    assert trainable == {"gender"}
    assert not network.encoder.training and not network.columns["emotion"].training
    assert network.columns["gender"].training


def test_a_column_reads_its_sources_and_only_those():
    network = small_network().eval()
    network.add_column("age", 8, ["gender"])
    network.eval()
    crops = torch.randn(1, 1, 128, 128)
    with torch.no_grad():
        before = network(crops)
        network.columns["emotion"].layers[3].conv.weight.add_(0.5)
        after = network(crops)
    # gender draws on emotion, and age on gender: the change reaches both.
    assert not torch.equal(before["gender"], after["gender"])
    assert not torch.equal(before["age"], after["age"])
    with torch.no_grad():
        network.columns["age"].layers[3].conv.weight.add_(0.5)
    assert torch.equal(network(crops)["gender"], after["gender"])


def test_asking_for_some_tasks_runs_what_they_need():
    network = small_network().eval()
    network.add_column("age", 8, ["emotion"])
    network.eval()
    crops = torch.randn(1, 1, 128, 128)
    assert network.with_sources(["age"]) == {"age", "emotion"}
    assert torch.equal(network(crops, ["age"])["age"], network(crops)["age"])


@pytest.mark.parametrize("sources", [[], ["emotion"]])
def test_a_skip_connection_brings_the_encoders_map_to_the_hidden_layer(sources):
    network = small_network()
    column = network.add_column("age", 8, sources, skip=True)
    network.eval()
    encoded = network.encoder(torch.randn(2, 1, 128, 128))
    before = network.activations(encoded, ["age"])["age"]
    own = before[-2].flatten(1).shape[1]
    skipped = torch.nn.functional.avg_pool2d(encoded, encoded.shape[-1] // 4).flatten(1)
    with torch.no_grad():
        column.hidden.weight[:, own : own + skipped.shape[1]] += 0.01  # its place: after what is the column's own
        after = network.activations(encoded, ["age"])["age"]
        added = 0.01 * skipped.sum(1, keepdim=True)
    for layer in range(24):
        assert torch.equal(before[layer], after[layer]), layer
    open_ones = before[-1][:, :, 0, 0] > 0
    torch.testing.assert_close((after[-1] - before[-1])[:, :, 0, 0][open_ones], added.expand(2, 200)[open_ones])


def test_the_last_layers_say_the_same_from_what_they_read_alone():
    network = small_network()
    column = network.add_column("age", 8, ["emotion", "gender"], skip=True)
    network.eval()
    with torch.no_grad():
        encoded = network.encoder(torch.randn(2, 1, 128, 128))
        sources = list(network.activations(encoded, ["emotion", "gender"]).values())
        logits, activations = column(encoded, sources)
        averaged = torch.nn.functional.adaptive_avg_pool2d(encoded, 4)
        alone = column.last_layers(averaged, activations[-2], [source[-2:] for source in sources])
    torch.testing.assert_close(alone, logits)


def test_a_column_may_draw_on_a_foreign_descriptor():
    network = small_network()
    network.add_column("identity", 5, ["emotion"], descriptor=16)
    network.add_column("age", 8, ["identity"])
    network.eval()
    crops, one, other = torch.randn(2, 1, 128, 128), torch.randn(2, 16), torch.randn(2, 16)
    found, changed = (network(crops, descriptors={"identity": vectors}) for vectors in (one, other))
    assert not torch.equal(found["identity"], changed["identity"])
    for task in ("emotion", "gender", "age"):
        assert torch.equal(found[task], changed[task]), task
    # Columns that draw on it read its hidden layers, which the descriptor does not reach.
    assert torch.equal(network(crops, ["age"])["age"], found["age"])
    assert len(network.activations(network.encoder(crops), ["identity"])["identity"]) == 25


@pytest.mark.parametrize("given", [None, 15])
def test_a_descriptor_that_is_missing_or_of_another_size_is_refused(given):
    network = small_network()
    network.add_column("identity", 5, descriptor=16)
    descriptors = None if given is None else {"identity": torch.randn(1, given)}
    with pytest.raises(ValueError, match=f"reads a descriptor of 16 numbers, it got {given or 0}"):
        network.eval()(torch.randn(1, 1, 128, 128), descriptors=descriptors)


def test_a_descriptor_of_length_one_speaks_as_loudly_as_the_hidden_layer():
    torch.manual_seed(0)
    column = Column(COMPACT, 5, descriptor=128)
    vectors = torch.nn.functional.normalize(torch.randn(200, 128))
    assert column.foreign(vectors).square().mean().item() == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize(
    ("task", "classes", "sources", "complaint"),
    [
        ("Emotion", 2, [], "must match"),
        ("a.b", 2, [], "must match"),
        ("emotion", 2, [], "already"),
        ("mood", 1, [], "at least 2"),
        ("mood", 2, ["nobody"], "nobody"),
        ("mood", 2, ["emotion", "emotion"], "twice"),
    ],
)
def test_a_column_that_cannot_be_is_refused(task, classes, sources, complaint):
    network = small_network()
    with pytest.raises(ValueError, match=complaint):
        network.add_column(task, classes, sources)
    assert list(network.columns) == ["emotion", "gender"]
