"""BEGAN: Tables I and II, equation 1, and a training that falls, resumes, stops and shows what it did."""

import csv
import math
import signal

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="training needs torch, which the train extra installs")
pytest.importorskip("kornia", reason="augmentation needs kornia, which the train extra installs")

from tiny_world import listen_to_ctrl_c, press_ctrl_c  # noqa: E402

from face_mtl_ros.bundle.bundle import load_bundle  # noqa: E402
from face_mtl_ros.bundle.network import build_network  # noqa: E402
from face_mtl_ros.datasets.dataset import DatasetError  # noqa: E402
from face_mtl_ros.datasets.registry import read_dataset  # noqa: E402
from face_mtl_ros.networks.began import Decoder, Discriminator, Generator  # noqa: E402
from face_mtl_ros.networks.cost import parameters  # noqa: E402
from face_mtl_ros.networks.presets import PRESETS, Preset  # noqa: E402
from face_mtl_ros.training.began import BeganRecipe, backward, convergence, next_k, train_began  # noqa: E402
from face_mtl_ros.training.began_production import make_began_encoder  # noqa: E402
from face_mtl_ros.training.checkpoint import CheckpointError  # noqa: E402
from face_mtl_ros.training.loop import TrainingError  # noqa: E402
from face_mtl_ros.training.unlabelled import UnlabelledPool  # noqa: E402

# The paper's topology at a few channels: fast enough for a test to train.
TINY = Preset("tiny", width=1 / 32, shrink=1, normalization="batch")
TINY_WITHOUT_NORM = Preset("tiny-plain", width=1 / 32, shrink=1, normalization="none")
TINIES = pytest.mark.parametrize("preset", [TINY, TINY_WITHOUT_NORM], ids=lambda preset: preset.normalization)

# Table II: filters and output size of each convolution; the last row's is the one that makes its single channel.
TABLE_II = [(16, 8)] * 2 + [(16, 16)] * 2 + [(16, 32)] * 3 + [(16, 64)] * 3 + [(1, 128)]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FACE_MTL_HOME", str(tmp_path / "home"))


@pytest.fixture
def dataset(tmp_path):
    """Discs of two brightnesses and many places, in a folder per class."""
    rng = np.random.default_rng(0)
    for i in range(24):
        picture = np.full((64, 64), 40, np.uint8)
        cv2.circle(picture, tuple(int(v) for v in rng.integers(20, 44, 2)), 14, 160 + 60 * (i % 2), -1)
        file = tmp_path / "pictures" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), picture)
    return read_dataset("folder", tmp_path / "pictures", "all")


@pytest.fixture
def pool(dataset):
    return UnlabelledPool([dataset])


def quiet(_line):
    pass


def brief(**changes):
    """Twelve steps."""
    return BeganRecipe(**{"epochs": 1, "batch": 2, "learning_rate": 1e-3, "log_every": 5, "window": 3, **changes})


@pytest.mark.parametrize("network", [Decoder, Generator])
def test_decoder_and_generator_are_table_ii(network):
    found = []
    module = network().eval()
    for layer in module.layers:
        if isinstance(layer, torch.nn.Conv2d):
            assert layer.kernel_size == (3, 3)
            layer.register_forward_hook(lambda _layer, _inputs, out: found.append((out.shape[1], out.shape[2])))
    assert (module.expand.in_features, module.expand.out_features) == (128, 1024)
    assert module(torch.zeros(2, 128)).shape == (2, 1, 128, 128)
    assert found == TABLE_II
    weights = 128 * 1024 + 1024 + 10 * (16 * 16 * 9 + 16) + (16 * 9 + 1)
    assert sum(p.numel() for p in module.parameters()) == weights


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_discriminator_is_table_i_with_its_latent_and_a_decoder(preset):
    discriminator = Discriminator(preset).eval()
    maps = round(256 * preset.width) * (16 // preset.shrink) ** 2
    expected = parameters(preset, []) + maps * 128 + 128 + sum(p.numel() for p in Decoder().parameters())
    assert sum(p.numel() for p in discriminator.parameters()) == expected
    with torch.no_grad():
        assert discriminator(torch.randn(1, 1, 128, 128)).shape == (1, 1, 128, 128)


def small_pair(preset):
    torch.manual_seed(0)
    return Discriminator(preset).train(), Generator().train(), torch.randn(3, 1, 128, 128), torch.rand(3, 128) * 2 - 1


@TINIES
@pytest.mark.parametrize("k", [0.0, 0.3])
def test_the_shared_pass_gives_the_gradients_of_two_separate_ones(preset, k):
    discriminator, generator, real, noise = small_pair(preset)

    def error(pictures):
        return (discriminator(pictures) - pictures).abs().mean()

    for_d = error(real) - k * error(generator(noise).detach())
    expected = torch.autograd.grad(for_d, list(discriminator.parameters()))
    for_g = error(generator(noise))
    expected += torch.autograd.grad(for_g, list(generator.parameters()))

    l_real, l_fake = backward(discriminator, generator, real, noise, k)
    assert l_real == pytest.approx(error(real).item(), rel=1e-5)
    assert l_fake == pytest.approx(for_g.item(), rel=1e-5)
    for found, right in zip([*discriminator.parameters(), *generator.parameters()], expected, strict=True):
        torch.testing.assert_close(found.grad, right, rtol=1e-3, atol=1e-5 * right.abs().max().item() + 1e-9)


def test_chunks_add_up_to_the_batch():
    discriminator, generator, _, _ = small_pair(TINY_WITHOUT_NORM)
    real, noise = torch.randn(11, 1, 128, 128), torch.rand(11, 128)
    with torch.no_grad():
        whole = (discriminator(real) - real).abs().mean().item()
    assert backward(discriminator, generator, real, noise, 0.5)[0] == pytest.approx(whole, rel=1e-5)


def test_only_real_pictures_count_for_the_running_statistics():
    discriminator, generator, real, noise = small_pair(TINY)
    other, other_generator, _, _ = small_pair(TINY)
    backward(discriminator, generator, real, noise, 0.5)
    other(real)
    for name, statistic in other.encoder.named_buffers():
        torch.testing.assert_close(discriminator.encoder.get_buffer(name), statistic)
    assert all(module.num_batches_tracked == 1 for module in norms(discriminator))
    discriminator.statistics_from(real=False)
    before = discriminator.encoder.layers[0].norm.running_mean.clone()
    discriminator(other_generator(noise))
    assert torch.equal(discriminator.encoder.layers[0].norm.running_mean, before)


def norms(network):
    return [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]


losses = st.floats(0, 10)


@given(k=st.floats(0, 1), l_real=losses, l_fake=losses, gamma=st.floats(0, 1), rate=st.floats(1e-6, 2))
def test_k_stays_in_its_range_and_moves_as_equation_1_says(k, l_real, l_fake, gamma, rate):
    after = next_k(k, l_real, l_fake, BeganRecipe(gamma=gamma, lambda_k=rate))
    assert 0 <= after <= 1
    # Above the ratio gamma the generator lags: the discriminator is to attend to it less. And the other way round.
    if l_fake > gamma * l_real:
        assert after <= k
    else:
        assert after >= k
    if 0 < after < 1:
        assert after == pytest.approx(k + rate * (gamma * l_real - l_fake), abs=1e-9)


def test_convergence_is_the_reconstruction_and_the_distance_from_balance():
    assert convergence(0.4, 0.2, 0.5) == pytest.approx(0.4)
    assert convergence(0.4, 0.5, 0.5) == pytest.approx(0.7)
    assert convergence(0.4, 0.1, 0.5) == pytest.approx(0.5)


def test_m_falls(pool):
    recipe = BeganRecipe(epochs=2, batch=2, learning_rate=3e-3, log_every=6)
    discriminator, _, history = train_began(TINY, pool, recipe, report=quiet)
    rows = history.rows
    assert [row.step for row in rows] == [6, 12, 18, 24]
    assert rows[-1].m < 0.75 * rows[0].m and rows[-1].l_real < 0.8 * rows[0].l_real
    assert all(0 <= row.k <= 1 for row in rows)
    # Four halvings over the last quarter.
    assert rows[2].learning_rate == 3e-3 and rows[3].learning_rate == 3e-3 / 16
    assert not discriminator.training and history.epochs == 2


def test_the_learning_rate_is_halved_where_m_stalls(pool):
    # A rate so low that nothing is learned: windows of one step, of which two in a row are no better than the best.
    recipe = brief(learning_rate=1e-12, window=1, log_every=1, lambda_k=1e-9)
    rows = train_began(TINY, pool, recipe, report=quiet)[2].rows
    first_three_quarters = [row.learning_rate for row in rows[: len(rows) * 3 // 4]]
    assert first_three_quarters == sorted(first_three_quarters, reverse=True)
    assert first_three_quarters[-1] <= 1e-12 / 2


class Killed(BaseException):
    """As if the process ended."""


@pytest.mark.parametrize("by", ["interrupt", "kill"])
def test_a_stopped_training_resumes_to_the_very_same_weights(pool, tmp_path, monkeypatch, by):
    listen_to_ctrl_c()
    monkeypatch.setattr("face_mtl_ros.training.began.REPORT_EVERY_S", -1.0)
    whole = train_began(TINY, pool, brief(), report=quiet)
    monkeypatch.setattr("face_mtl_ros.training.began.CHECKPOINT_EVERY_S", -1.0 if by == "kill" else 60.0)
    file, lines = tmp_path / "began.pt", []

    def stop(line):
        if "step 7 of 12" in line:
            if by == "kill":
                raise Killed  # before the seventh step's checkpoint: the sixth's is what there is
            press_ctrl_c()

    with pytest.raises(Killed if by == "kill" else KeyboardInterrupt):
        train_began(TINY, pool, brief(), file, report=stop)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    torch.manual_seed(99)
    resumed = train_began(TINY, pool, brief(), file, report=lines.append)
    assert "resuming at step " + ("6" if by == "kill" else "7") in lines[0]
    for mine, right in zip(resumed[:2], whole[:2], strict=True):
        for name, value in right.state_dict().items():
            assert torch.equal(mine.state_dict()[name], value), name
    figures = [[(row.step, row.m, row.k, row.learning_rate) for row in run[2].rows] for run in (whole, resumed)]
    assert figures[0] == figures[1] and [step for step, *_ in figures[0]] == [5, 10, 12]


def test_a_longer_budget_goes_on_and_is_recorded(pool, tmp_path):
    file, lines = tmp_path / "began.pt", []
    train_began(TINY, pool, brief(epochs=0.25), file, report=quiet)
    history = train_began(TINY, pool, brief(epochs=0.5, learning_rate=5e-4), file, report=lines.append)[2]
    assert "resuming at step 3 of 6" in lines[0]
    assert history.budgets == [
        {"step": 0, "epochs": 0.25, "minutes": None},
        {"step": 3, "epochs": 0.5, "minutes": None},
    ]
    assert [row.step for row in history.rows] == [5, 6]


def test_training_ends_when_its_minutes_are_over(pool):
    history = train_began(TINY, pool, brief(epochs=1e9, minutes=0.005), report=quiet)[2]
    assert history.rows[-1].seconds >= 0.3 and history.epochs < 1e3


@pytest.mark.parametrize(
    ("preset", "changes", "complaint"),
    [
        (TINY_WITHOUT_NORM, {}, "preset 'tiny' there and 'tiny-plain' here"),
        (TINY, {"batch": 3}, "batch 2 there and 3 here"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(pool, tmp_path, preset, changes, complaint):
    file = tmp_path / "began.pt"
    train_began(TINY, pool, brief(epochs=0.1), file, report=quiet)
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match=complaint):
        train_began(preset, pool, brief(**changes), file, report=quiet)
    assert file.read_bytes() == before


def test_a_loss_that_is_no_number_stops_with_the_batch_and_keeps_the_checkpoint(pool, tmp_path):
    file = tmp_path / "began.pt"
    train_began(TINY, pool, brief(epochs=0.2), file, report=quiet)
    before = file.read_bytes()
    with pytest.raises(
        TrainingError, match=r"at step \d+; samples of the batch: folder/[ab]/.*began.pt keeps.*below 1e\+30"
    ) as e:
        train_began(TINY, pool, brief(learning_rate=1e30), file, report=quiet)
    assert str(e.value).count("folder/") == 2
    assert file.read_bytes() == before
    # The learning rate is no part of what a checkpoint must agree in, so the advice can be followed.
    train_began(TINY, pool, brief(epochs=0.3, learning_rate=1e-4), file, report=quiet)


def test_sheets_show_real_reconstructed_and_generated_faces(pool, tmp_path):
    sheets = tmp_path / "sheets"
    train_began(TINY, pool, brief(sheet_minutes=1e-9, epochs=0.25, log_every=2), sheets=sheets, report=quiet)
    files = sorted(sheets.glob("sheet-*.png"))
    assert [file.name for file in files] == [f"sheet-{step:06d}.png" for step in (1, 2, 3)]
    first, last = (cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in (files[0], files[-1]))
    assert first.shape == (3 * 130 + 2, 8 * 130 + 2) and first.dtype == np.uint8
    assert (first[:2] == 255).all() and (first[130:132] == 255).all() and (first[:, 1040:] == 255).all()
    rows = [(first[y + 2 : y + 130], last[y + 2 : y + 130]) for y in (0, 130, 260)]
    assert np.array_equal(*rows[0])  # the same pictures each time, and what becomes of them
    assert not np.array_equal(*rows[1]) and not np.array_equal(*rows[2])
    tile = rows[0][0][:, 2:130].astype(float)
    assert tile.mean() == pytest.approx(127.5, abs=3) and 30 < tile.std() < 60
    log = list(csv.DictReader((sheets / "began.csv").open()))
    assert [row["step"] for row in log] == ["2", "3"]
    assert all(math.isfinite(float(value)) for row in log for value in row.values())
    assert cv2.imread(str(sheets / "convergence.png")) is not None


def test_the_encoder_of_the_discriminator_becomes_a_bundle(dataset, tmp_path):
    root, lines = tmp_path / "bundle", []
    recipe = BeganRecipe(epochs=0.1, batch=2)  # a single step
    bundle = make_began_encoder(root, "faces", "compact", [dataset], recipe, "face-mtl pretrain", lines.append)
    record = load_bundle(root).manifest.encoder
    assert not bundle.manifest.columns and set(record.metrics) == {
        f"began/{name}" for name in ("m", "l_real", "l_fake", "k", "steps")
    }
    assert record.metrics["began/m"] >= record.metrics["began/l_real"] > 0
    assert record.provenance.recipe["gamma"] == 0.5 and record.provenance.samples == {"folder/all": 24}
    pool = UnlabelledPool([dataset])
    expected = train_began(PRESETS["compact"], pool, recipe, report=quiet)[0].encoder
    for name, value in build_network(bundle).encoder.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name]), name
    with pytest.raises(ValueError, match=f"{root} holds a bundle already.*--force"):
        make_began_encoder(root, "faces", "compact", [dataset], recipe, "face-mtl pretrain", quiet)
    make_began_encoder(root, "again", "compact", [dataset], recipe, "face-mtl pretrain", quiet, force=True)
    assert load_bundle(root).manifest.name == "again"


def test_the_pool_numbers_the_pictures_of_all_datasets(dataset):
    pool = UnlabelledPool([dataset, dataset])
    assert len(pool) == 2 * len(dataset)
    crops = pool.crops(np.array([0, 23, 24, 47]))
    assert crops.shape == (4, 160, 160) and crops.dtype == torch.uint8
    assert torch.equal(crops[0], crops[2]) and torch.equal(crops[1], crops[3]) and not torch.equal(crops[0], crops[1])
    assert pool.ids == dataset.ids * 2
    with pytest.raises(DatasetError, match="no picture to train on"):
        UnlabelledPool([])


@pytest.mark.parametrize(
    ("name", "value"), [("gamma", 1.5), ("gamma", -0.1), ("batch", 0), ("learning_rate", 0.0), ("minutes", 0.0)]
)
def test_a_recipe_that_cannot_be_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}: .* expected, got {value}"):
        BeganRecipe(**{name: value})
