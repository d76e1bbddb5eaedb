"""face-mtl bench: what it prints and writes, and that the peers' networks are those that were published."""

import json
import subprocess
import sys
from types import ModuleType

import cv2
import numpy as np
import pytest
from played_gpu import PlayedGpu

from face_mtl_ros.cli import bench, bench_machine, build_parser, main
from face_mtl_ros.cli.bench_ratios import ratios
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
    assert len(result["machine"]["load_at_start"]) == len(result["machine"]["load_at_end"]) == 3
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
    for entry in result["pictures"]:
        assert set(entry["stage_ms"]) >= {"detect", "align", "infer"} and entry["runs"] >= 3
        assert entry["stage_ms"]["detect"] < entry["slowest_ms"]
        assert entry["faces_found"] == entry["faces"]  # with the smallest face that is looked for by default
    text = report.read_text()
    assert result["machine"]["cpu"] in text and "benchmark.png" in text
    assert f"| {result['inference'][1]['median_ms']} |" in text
    assert f"slowest of {result['pictures'][0]['runs']}" in text and "A still is" in text
    assert all(name in text for name in result["machine"]["instructions"])
    assert cv2.imread(str(plot)).shape[2] == 3


def test_an_engine_that_is_not_here_is_left_out_and_said(capsys):
    options = ["--preset", "compact", "--engine", "onnxruntime", "--precision", "fp7", "--batch", "1"]
    args = build_parser().parse_args(["bench", *options, "--seconds", "0.01"])
    assert list(bench.inference(args, {"fp32": 1.0})) == []
    assert "compact onnxruntime fp7 left out: precision 'fp7' cannot be had" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--batch", "-1"), ("--batch", "0"), ("--seconds", "0"), ("--seconds", "-2"), ("--seconds", "nan")]
    + [("--seconds", "inf"), ("--threads", "-1")],
)
def test_a_number_that_cannot_be_meant_ends_with_2_before_any_work(monkeypatch, capsys, option, value):
    monkeypatch.setattr(bench, "machine", lambda *_: pytest.fail("work was begun"))
    assert main(["bench", option, value]) == 2
    out, err = capsys.readouterr()
    assert out == "" and f"{option} {value}: " in err and "is expected" in err


@pytest.mark.parametrize(("missing", "kept"), [("openvino", "torch fp32"), ("torch", "fp32")])
def test_the_product_of_an_engine_that_is_missing_is_left_out(monkeypatch, missing, kept):
    pytest.importorskip("torch", reason="the engine is an extra")
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(bench_machine, "SIZE", 64)
    monkeypatch.setattr(bench_machine, "TORCH_SIZE", 64)
    rates = bench_machine.machine(0.01)["gemm_gflops"]
    assert kept in rates and not any(
        name.startswith("torch") == (missing == "torch") for name in rates if "onnx" not in name
    )


LITTLE = ["--no-peers", "--no-pictures", "--seconds", "0.01"]


def measured_little(monkeypatch) -> None:
    """No engine and no product, for what is asked of the rest."""
    monkeypatch.setattr(bench, "inference", lambda *_: iter(()))
    monkeypatch.setattr(bench_machine, "gemm_gflops", lambda *_: {})
    monkeypatch.setattr(bench, "_auto", lambda *_: None)


@pytest.mark.parametrize("package", ["rclpy", "face_mtl_msgs"])
def test_without_ros_the_node_is_left_out_and_all_else_is_written(monkeypatch, tmp_path, capsys, package):
    monkeypatch.setitem(sys.modules, package, None)  # so that it is not found
    measured_little(monkeypatch)
    assert main(["bench", "--json", *LITTLE, "--report", str(tmp_path / "b.md")]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["pipeline"] == [] and (tmp_path / "b.md").exists()
    assert f"perception node left out: {package} is not there; run make demo" in err


@pytest.mark.ros
def test_a_node_that_fails_is_left_out_and_all_else_is_written(monkeypatch, tmp_path, capfd):
    pytest.importorskip("rclpy", reason="the node needs ROS 2, which make demo installs")
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_that_is_not_there")
    measured_little(monkeypatch)
    assert main(["bench", "--json", *LITTLE, "--report", str(tmp_path / "b.md")]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["pipeline"] == [] and (tmp_path / "b.md").exists()
    assert (
        "rmw_that_is_not_there" in err and "perception node left out from here: its benchmark ended with status" in err
    )


@pytest.mark.ros
@pytest.mark.slow
def test_the_node_says_its_stages(monkeypatch):
    rclpy = pytest.importorskip("rclpy", reason="the node needs ROS 2, which make demo installs")
    from face_mtl_ros.nodes import benchmark

    monkeypatch.setattr(benchmark, "MEASURE_S", 3.0)
    rclpy.init()
    try:
        entry = benchmark.measure((640, 480), 16, "haar")
    finally:
        rclpy.try_shutdown()
    assert entry["faces_found"] > 15
    assert {"stamp_to_receipt", "wait", "convert", "detect", "align", "infer", "total"} <= set(entry["median_ms"])


@pytest.mark.slow
def test_memory_is_the_same_whether_the_int8_model_is_made_or_found(tmp_path):
    pytest.importorskip("onnxruntime", reason="the engine is an extra")
    command = [sys.executable, "-m", "face_mtl_ros.runtime.measure", "compact", "onnxruntime", "int8"]
    command += ["--bundle", str(tmp_path / "bundle")]
    made, found = (json.loads(subprocess.check_output(command)) for _ in range(2))
    assert made["memory_mb"] == pytest.approx(found["memory_mb"], rel=0.1)
    assert made["device"] == "cpu" and made["precision"] == "int8"


@pytest.mark.slow
def test_a_peers_memory_is_its_own_and_not_its_makers():
    command = [sys.executable, "-m", "face_mtl_ros.runtime.peers", "FER+ VGG-13", "opencv", "--batch", "1"]
    (line,) = subprocess.check_output([*command, "--seconds", "0.01"], text=True).splitlines()
    entry = json.loads(line)
    assert (entry["peer"], entry["runtime"], entry["batch"]) == ("FER+ VGG-13", "opencv", 1)
    assert 50 < entry["memory_mb"] < 230  # 8.8 million weights are 35 MB, and Python with OpenCV some 60


RATES = {"fp32": 100.0, "torch fp32": 120.0, "int8": 90.0, "torch cuda fp16": 9000.0}


@pytest.mark.parametrize(
    ("rates", "device", "precision", "best"),
    [
        (RATES, "cpu", "fp32", 120.0),
        (RATES, "CPU", "fp32", 120.0),
        (RATES, "cpu", "int8", None),  # slower than fp32: no ceiling
        ({**RATES, "onnxruntime int8": 300.0}, "cpu", "int8", 300.0),
        (RATES, "cpu", "bf16", None),
        (RATES, "cuda:0", "fp16", 9000.0),
        (RATES, "tensorrt:0", "fp16", 9000.0),
        (RATES, "cuda:0", "fp32", None),  # never the CPU's
        (RATES, "GPU", "fp32", None),
        ({}, "cpu", "fp32", None),
    ],
)
def test_a_ceiling_is_of_the_engines_device_and_precision(rates, device, precision, best):
    assert bench_machine.ceiling(rates, device, precision) == best


def test_a_rate_is_that_of_the_median_time_as_the_engines_are(monkeypatch):
    monkeypatch.setattr(bench_machine, "measured_times", lambda work, seconds: [1e-3, 2e-3, 9e-3])
    assert bench_machine._rate(1000, lambda: None, 1.0) == pytest.approx(1000.0)


@pytest.mark.parametrize(
    ("engine", "device", "expected"),
    [
        ("torch", "cpu", ["fp32"]),
        ("torch", "cuda:0", ["fp32", "fp16", "bf16"]),
        ("tensorrt", "cuda:0", ["fp32", "fp16", "bf16", "int8"]),
        ("openvino", "CPU", ["fp32", "int8"]),
        ("openvino", "GPU.0", ["fp32", "fp16", "int8"]),
    ],
)
def test_precisions_are_those_of_the_device_that_the_engine_took(monkeypatch, engine, device, expected):
    """The measuring process is played: there is no GPU."""
    asked = []

    def played(name, *arguments, home=None):
        assert arguments[arguments.index("--device") + 1] == "auto"
        if "--batch" not in arguments:
            return []
        asked.append(arguments[2])
        timing = {"runs": 5, "median_ms": 1.0, "p99_ms": 1.0, "slowest_ms": 1.0}
        entry = {"batch": 1, **timing, "faces_per_s": 1.0, "gflops": 50.0, "memory_mb": 1}
        return [{"engine": engine, "device": device, "first_result_s": 1.0}, entry]

    monkeypatch.setattr(bench, "_module", played)
    args = build_parser().parse_args(["bench", "--preset", "compact", "--engine", engine, "--seconds", "1"])
    entries = list(bench.inference(args, {"fp32": 100.0, "torch cuda fp16": 1000.0}))
    assert asked == expected == [entry["precision"] for entry in entries]
    shares = {entry["precision"]: entry["share_of_ceiling"] for entry in entries}
    if device == "cuda:0":
        assert shares["fp16"] == 0.05 and shares["fp32"] is None
    else:
        assert shares["fp32"] == (None if device == "GPU.0" else 0.5)


def test_the_gpu_is_named(monkeypatch):
    gpu = PlayedGpu()
    for name in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    runtime = gpu.runtime()
    sys.modules["cuda.bindings"].runtime = runtime
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime)
    monkeypatch.setattr(bench_machine, "gemm_gflops", lambda *_: {})
    assert bench_machine.machine(0.01)["gpu"] == "Played GPU"
    assert bench_machine.machine(0.01, "tensorrt:0")["gpu"] == "Played GPU"
    assert "gpu" not in bench_machine.machine(0.01, "cpu")
    assert "gpu" not in bench_machine.machine(0.01, "cuda:7")


def test_ratios_are_of_what_auto_takes_and_of_the_fastest():
    def entry(engine, batch, ms):
        rates = {"median_ms": ms, "faces_per_s": batch / ms * 1e3, "gflops": batch / ms * 300}
        return {"preset": "compact", "engine": engine, "device": "cpu", "precision": "fp32", "batch": batch, **rates}

    def peer(runtime, batch, ms):
        return {"peer": "Peer", "runtime": runtime, "batch": batch, "median_ms": ms}

    result = {
        "machine": {
            "auto": {"engine": "onnxruntime", "device": "cpu", "precision": "fp32"},
            "gemm_gflops": {"fp32": 900.0, "torch fp32": 100.0},
        },
        "inference": [entry("onnxruntime", 1, 10.0), entry("onnxruntime", 8, 40.0), entry("torch", 1, 30.0)],
        "peers": [peer("opencv", 1, 50.0), peer("openvino", 1, 20.0), peer("opencv", 8, 80.0)],
    }
    found = {(row["what"], row["batch"]): row["ratio"] for row in ratios(result)}
    assert found == {
        ("GFLOP/s: compact's fastest in fp32 (onnxruntime) / product by torch fp32", 1): "30%",
        ("GFLOP/s: compact's fastest in fp32 (onnxruntime) / product by torch fp32", 8): "60%",
        ("ms: eager torch fp32 / ours (compact, onnxruntime fp32)", 1): "3.00",
        ("faces/s: ours (compact, onnxruntime fp32), batch 8 / batch 1", 8): "2.00",
        ("ms: Peer by openvino / ours (compact, onnxruntime fp32)", 1): "2.00",
        ("ms: Peer by opencv / ours (compact, onnxruntime fp32)", 8): "2.00",
    }
    result["machine"]["auto"] = None
    assert len(list(ratios(result))) == 2


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
