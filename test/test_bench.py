"""face-mtl bench: what it prints and writes, and that the peers' networks are those that were published."""

import json

import cv2
import numpy as np
import pytest

from face_mtl_ros.cli import main
from face_mtl_ros.runtime.peers import deepface_age, deepface_emotion, deepface_gender, ferplus_vgg13


@pytest.fixture(autouse=True)
def own_home(home):
    """Nothing compiled before takes part."""


@pytest.mark.slow
def test_what_was_measured_is_printed_written_and_drawn(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the train extra installs it")
    report, plot = tmp_path / "out" / "benchmark.md", tmp_path / "out" / "benchmark.png"
    options = ["--preset", "compact", "--engine", "openvino", "--batch", "1", "--batch", "2", "--seconds", "0.01"]
    options += ["--precision", "fp32", "--no-peers", "--no-pipeline", "--report", str(report), "--plot", str(plot)]
    assert main(["bench", "--json", *options]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"machine", "inference", "peers", "pictures", "pipeline"}
    assert {"cpu", "threads", "gemm_gflops"} <= set(result["machine"]) and result["machine"]["gemm_gflops"]["fp32"] > 0
    assert [entry["batch"] for entry in result["inference"]] == [1, 2]
    for entry in result["inference"]:
        assert {"preset", "engine", "precision", "median_ms", "p99_ms", "faces_per_s", "gflops"} <= set(entry)
        assert entry["p99_ms"] >= entry["median_ms"] > 0
        assert entry["faces_per_s"] == pytest.approx(entry["batch"] / entry["median_ms"] * 1e3, rel=0.05)
        assert 0 < entry["share_of_ceiling"] < 3 and entry["memory_mb"] > 50
        assert entry["compile_s"] > 0 and entry["load_s"] > 0
    assert [(e["width"], e["faces"]) for e in result["pictures"]] == [
        (w, n) for w in (640, 1280) for n in (1, 4, 8, 16)
    ]
    assert all(set(entry["stage_ms"]) >= {"detect", "align", "infer"} for entry in result["pictures"])
    text = report.read_text()
    assert result["machine"]["cpu"] in text and "benchmark.png" in text
    assert f"| {result['inference'][1]['median_ms']} |" in text
    assert cv2.imread(str(plot)).shape[2] == 3


def test_an_engine_that_is_not_here_is_left_out_and_said(tmp_path, capsys):
    from face_mtl_ros.cli import build_parser
    from face_mtl_ros.cli.bench import inference

    options = ["--preset", "compact", "--engine", "onnxruntime", "--precision", "fp7", "--batch", "1"]
    args = build_parser().parse_args(["bench", *options, "--seconds", "0.01"])
    assert list(inference(args, {"fp32": 1.0})) == []
    assert "compact onnxruntime fp7 left out: precision 'fp7' cannot be had" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("maker", "row", "classes", "parameters", "gflops"),
    [
        # The sums over the published tables, by hand: weights and biases; two operations a weight and place.
        (ferplus_vgg13, (1, 64, 64), 8, 8_757_704, 1.75),
        (deepface_emotion, (1, 48, 48), 7, 1_485_831, 0.058),
    ],
)
def test_peers_are_of_the_published_size_and_run(maker, row, classes, parameters, gflops):
    import onnx

    layers = maker()
    assert layers.row == row
    model = layers.model()
    found = onnx.load_from_string(model)
    onnx.checker.check_model(found, full_check=True)
    assert sum(int(np.prod(tensor.dims)) for tensor in found.graph.initializer) == parameters
    assert layers.flops / 1e9 == pytest.approx(gflops, rel=0.02)
    net = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))
    net.setInput(np.random.default_rng(0).normal(size=(2, *row)).astype(np.float32))
    probabilities = net.forward()
    assert probabilities.shape == (2, classes)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("maker", "classes"), [(deepface_age, 101), (deepface_gender, 2)])
def test_vgg_face_is_of_the_published_size(maker, classes):
    import onnx

    layers = maker()
    found = onnx.load_from_string(layers.model())
    assert [d.dim_value for d in found.graph.output[0].type.tensor_type.shape.dim][1:] == [classes]
    # VGG-16 without its last layer, and the new one.
    parameters = 134_260_544 + 4097 * classes
    assert sum(int(np.prod(tensor.dims)) for tensor in found.graph.initializer) == parameters
