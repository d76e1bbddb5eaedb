"""The graph and the engines against the torch network, which is the reference."""

import dataclasses
import logging
import subprocess
import sys

import numpy as np
import onnx
import pytest

from face_mtl_ros.runtime.engine import EMBEDDING, EngineError
from face_mtl_ros.runtime.engines import make_engine
from face_mtl_ros.runtime.graph import build_graph
from face_mtl_ros.runtime.predictor import Predictor
from face_mtl_ros.runtime.random_bundle import write_random_bundle

COLUMNS = {
    "emotion": (["a", "b", "c"], []),
    "gender": (["male", "female"], ["emotion"]),
    "age": (["0", "1", "2", "3"], ["emotion", "gender"]),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_random_bundle(tmp_path_factory.mktemp("bundle"), "compact", COLUMNS)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FACE_MTL_HOME", str(tmp_path))
    return tmp_path


def crops(n):
    return np.random.default_rng(n).normal(size=(n, 1, 128, 128)).astype(np.float32)


@pytest.mark.parametrize("preset", ["compact", pytest.param("paper", marks=pytest.mark.slow)])
def test_openvino_in_fp32_gives_what_torch_gives(tmp_path, preset):
    pytest.importorskip("torch", reason="the reference is torch, which the train extra installs")
    columns = COLUMNS if preset == "compact" else {task: COLUMNS[task] for task in ("emotion", "gender")}
    bundle = write_random_bundle(tmp_path / "bundle", preset, columns)
    inputs = crops(2)
    reference = make_engine(bundle, "torch", device="cpu", precision="fp32").run(inputs)
    found = make_engine(bundle, "openvino", precision="fp32").run(inputs)
    assert list(found) == list(reference) == [*columns, EMBEDDING]
    for task, logits in reference.items():
        np.testing.assert_allclose(found[task], logits, rtol=2e-3, atol=2e-3, err_msg=task)


def test_the_batch_is_dynamic_and_rows_do_not_mix(bundle):
    engine = make_engine(bundle, "openvino", precision="fp32")
    inputs = crops(5)
    whole = engine.run(inputs)
    for n in (1, 3):
        part = engine.run(inputs[:n])
        for task in COLUMNS:
            np.testing.assert_allclose(part[task], whole[task][:n], rtol=1e-3, atol=1e-3)
    assert engine.run(inputs[:0])["emotion"].shape == (0, 3)


def test_the_graph_is_valid_onnx_with_a_dynamic_batch(bundle):
    graph = build_graph(bundle)
    onnx.checker.check_model(graph, full_check=True)
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [output.name for output in graph.graph.output] == [*COLUMNS, EMBEDDING]
    assert "BatchNormalization" not in {node.op_type for node in graph.graph.node}


def test_auto_precision_stays_close_to_fp32(bundle):
    inputs = crops(4)
    exact = make_engine(bundle, "openvino", precision="fp32").run(inputs)
    engine = make_engine(bundle, "openvino")
    tolerance = 0.12 if engine.precision == "bf16" else 2e-3
    for task, logits in engine.run(inputs).items():
        spread = np.abs(exact[task]).max()
        assert np.abs(logits - exact[task]).max() < tolerance * spread, task


def test_compiled_models_are_cached(bundle, home):
    make_engine(bundle, "openvino")
    cached = {file.name for file in (home / "cache" / "openvino").iterdir()}
    assert cached
    make_engine(bundle, "openvino")
    assert {file.name for file in (home / "cache" / "openvino").iterdir()} == cached


def test_a_cache_that_cannot_be_made_costs_a_warning_only(bundle, monkeypatch, caplog):
    monkeypatch.setenv("FACE_MTL_HOME", "/proc/none")
    engine = make_engine(bundle, "openvino")
    assert engine.run(crops(1))["emotion"].shape == (1, 3)
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "/proc/none" in warning.getMessage() and "set FACE_MTL_HOME" in warning.getMessage()


def test_what_openvino_cannot_compile_is_one_line(bundle):
    halved = {name: weights.astype(np.float16) for name, weights in bundle.columns["emotion"].items()}
    odd = dataclasses.replace(bundle, columns={**bundle.columns, "emotion": halved})
    with pytest.raises(EngineError, match="cannot be compiled by OpenVINO for CPU in fp32: .*; try") as raised:
        make_engine(odd, "openvino", precision="fp32")
    assert str(bundle.root) in str(raised.value)
    assert "\n" not in str(raised.value) and "Exception from" not in str(raised.value)


def test_probabilities_sum_to_one_whatever_the_crop(bundle):
    predictor = Predictor(bundle, make_engine(bundle, "openvino"))
    odd = np.stack([np.zeros((128, 128)), np.full((128, 128), 255), np.eye(128) * 255]).astype(np.uint8)
    for task, probabilities in predictor.predict(odd).items():
        assert probabilities.shape == (3, len(COLUMNS[task][0]))
        assert np.isfinite(probabilities).all()
        np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"name": "magic"}, "engine 'magic' is unknown; choose one of auto, tensorrt, openvino, torch"),
        ({"name": "openvino", "device": "TPU"}, "device 'TPU' is not there: OpenVINO sees CPU"),
        ({"name": "openvino", "precision": "fp4"}, "precision 'fp4' cannot be had on CPU here"),
    ],
)
def test_what_cannot_be_had_is_named(bundle, options, complaint):
    with pytest.raises(EngineError, match=complaint):
        make_engine(bundle, **options)


@pytest.mark.parametrize(
    ("device", "complaint"),
    [
        ("cuda:9", "'cuda:9' is not there: torch sees cuda:0, cuda:1;"),
        ("cuda:x", "'cuda:x' is unknown"),
        ("tpu", "cuda:N"),
    ],
)
def test_a_cuda_device_that_is_not_there_is_named(bundle, monkeypatch, device, complaint):
    torch = pytest.importorskip("torch", reason="the train extra installs it")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(EngineError, match=complaint):
        make_engine(bundle, "torch", device=device)


def test_torch_takes_the_threads_it_is_given(bundle):
    torch = pytest.importorskip("torch", reason="the train extra installs it")
    before = torch.get_num_threads()
    try:
        make_engine(bundle, "torch", device="cpu", threads=before + 1)
        assert torch.get_num_threads() == before + 1
        make_engine(bundle, "torch", device="cpu")
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_folding_batch_normalisation_changes_no_answer(bundle):
    torch = pytest.importorskip("torch", reason="the train extra installs it")
    from face_mtl_ros.bundle.network import build_network
    from face_mtl_ros.networks.normalization import fold_normalization

    inputs = torch.from_numpy(crops(2))
    network = build_network(bundle)
    with torch.inference_mode():
        expected = network(inputs)
        fold_normalization(network)
        found = network(inputs)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    for task, values in expected.items():
        np.testing.assert_allclose(found[task], values, rtol=1e-3, atol=1e-3)


def test_a_bundle_without_columns_says_so(tmp_path):
    bundle = write_random_bundle(tmp_path / "empty", "compact", {})
    with pytest.raises(EngineError, match="no column yet"):
        make_engine(bundle)


def test_openvino_does_without_torch(bundle):
    """A robot that runs a model does not pay for what trains it."""
    code = (
        "import sys\n"
        "from face_mtl_ros.bundle.bundle import load_bundle\n"
        "from face_mtl_ros.runtime.engines import make_engine\n"
        "import face_mtl_ros.analyzer\n"
        f"make_engine(load_bundle({str(bundle.root)!r}), 'openvino')\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
