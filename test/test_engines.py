"""The graph and the engines against the torch network, which is the reference."""

import contextlib
import dataclasses
import json
import logging
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest

from face_mtl_ros.paths import cache_dir
from face_mtl_ros.runtime import engines
from face_mtl_ros.runtime.engine import EMBEDDING, EngineError
from face_mtl_ros.runtime.engine_cache import InUse, prune
from face_mtl_ros.runtime.engines import make_engine
from face_mtl_ros.runtime.graph import build_graph
from face_mtl_ros.runtime.plan_cache import write_plan
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


def compiled_files():
    return sorted((cache_dir() / "openvino").glob("*.blob"))


def test_what_was_compiled_is_found_again_and_says_the_same(bundle, caplog):
    first = make_engine(bundle, "openvino", precision="fp32").run(crops(3))
    (file,) = compiled_files()
    whole, written = file.read_bytes(), file.stat().st_mtime_ns
    again = make_engine(bundle, "openvino", precision="fp32", threads=1).run(crops(3))
    assert compiled_files() == [file] and file.read_bytes() == whole and file.stat().st_mtime_ns >= written
    for task, values in first.items():
        np.testing.assert_allclose(again[task], values, rtol=1e-4, atol=1e-4)
    assert not caplog.records


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (lambda data: data[: len(data) // 2], "is cut or corrupt; compiling anew"),
        (lambda data: data.replace(b'"precision": "fp32"', b'"precision": "bf16"'), "for something else (precision)"),
    ],
)
def test_what_is_damaged_or_foreign_is_compiled_anew(bundle, caplog, harm, complaint):
    expected = make_engine(bundle, "openvino", precision="fp32").run(crops(1))
    (file,) = compiled_files()
    whole = file.read_bytes()
    file.write_bytes(harm(whole))
    found = make_engine(bundle, "openvino", precision="fp32").run(crops(1))
    assert complaint in caplog.text and file.read_bytes() != harm(whole)
    np.testing.assert_allclose(found["emotion"], expected["emotion"], rtol=1e-4, atol=1e-4)


def test_what_openvino_does_not_take_back_is_compiled_anew(bundle, caplog):
    """Whole, and of the right name, and yet nothing that it knows."""
    expected = make_engine(bundle, "openvino", precision="fp32").run(crops(1))
    (file,) = compiled_files()
    key = json.loads(file.read_bytes().partition(b"\n")[0])
    del key["sha256"]
    write_plan(file, key, b"nothing that was compiled")
    found = make_engine(bundle, "openvino", precision="fp32").run(crops(1))
    assert "OpenVINO does not take what it compiled before" in caplog.text
    caplog.clear()
    make_engine(bundle, "openvino", precision="fp32")
    assert not caplog.records  # it was replaced
    np.testing.assert_allclose(found["emotion"], expected["emotion"], rtol=1e-4, atol=1e-4)


def test_a_start_with_what_was_compiled_writes_no_graph(bundle):
    make_engine(bundle, "openvino", precision="fp32")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from face_mtl_ros.bundle.bundle import load_bundle\n"
        "from face_mtl_ros.runtime.engines import make_engine\n"
        f"make_engine(load_bundle(Path({str(bundle.root)!r})), 'openvino', 'cpu', 'fp32')\n"
        "assert not {'onnx', 'scipy', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def keep(entry, size, age):
    """What an engine left behind: a file, or a folder with one."""
    file = entry if entry.suffix else entry / "1.blob"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(size))
    os.utime(entry, (1e9 - age, 1e9 - age))


def test_what_was_used_longest_ago_goes_first():
    entries = [cache_dir() / name for name in ("openvino/a", "openvino/1.blob", "tensorrt/b.engine", "onnxruntime/c")]
    for i, entry in enumerate(entries):
        keep(entry, 100, age=[3, 4, 1, 2][i])
    keep(cache_dir() / "int8" / "int8-cpu.onnx", 1000, age=9)
    (cache_dir() / "tensorrt" / "b.lock").touch()
    (cache_dir() / "tensorrt" / ".c.engine.partial").write_bytes(bytes(1000))  # another process writes it
    assert prune(400) == []
    assert prune(250) == [entries[1], entries[0]]
    assert InUse(entries[3]).entry.is_dir()  # which is a use
    assert prune(100) == [entries[2]] and entries[3].is_dir()
    keep(cache_dir() / "tensorrt" / ".c.engine.partial", 1000, age=0)  # a kill left it behind
    assert prune(400) == [cache_dir() / "tensorrt" / ".c.engine.partial"]
    assert (cache_dir() / "int8" / "int8-cpu.onnx").exists() and (cache_dir() / "tensorrt" / "b.lock").exists()


def test_what_another_process_uses_stays():
    for name in ("openvino/a", "tensorrt/b.engine"):
        keep(cache_dir() / name, 100, age=0)
    code = (
        "from face_mtl_ros.paths import cache_dir\n"
        "from face_mtl_ros.runtime.engine_cache import InUse\n"
        "held = [InUse(cache_dir() / name) for name in ('openvino/a', 'tensorrt/b.engine')]\n"
        "print('held', flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        assert prune(0) == []
        other.kill()
    assert len(prune(0)) == 2


def test_an_engine_in_use_stays_and_makes_room_for_itself(bundle, tmp_path, monkeypatch):
    keep(cache_dir() / "openvino" / "old", 100, age=0)
    monkeypatch.setattr(engines, "LIMIT_BYTES", 50)
    first = make_engine(bundle, "openvino")
    assert not (cache_dir() / "openvino" / "old").exists()
    (own,) = compiled_files()
    other = write_random_bundle(tmp_path / "other", "compact", {"emotion": COLUMNS["emotion"]}, seed=1)
    second = make_engine(other, "openvino")
    assert own in compiled_files() and len(compiled_files()) == 2
    assert first.run(crops(1))["emotion"].shape == second.run(crops(1))["emotion"].shape
    del first
    assert prune(50) == [own]


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
        ({"name": "openvino", "device": "TPU"}, "'TPU' is not there for .*, which sees CPU.*; use one of these, or"),
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


def test_cuda_where_torch_sees_none_is_said(bundle, monkeypatch):
    torch = pytest.importorskip("torch", reason="the train extra installs it")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match="device 'cuda' is not there: torch sees no CUDA device; use device 'cpu'"):
        make_engine(bundle, "torch", device="cuda")


@pytest.mark.parametrize("fits", [4, 0])
def test_where_a_gpu_s_memory_is_short_torch_records_smaller_graphs(monkeypatch, caplog, fits):
    """The graphs are played; that smaller ones are tried, and what is said where none fits, is the package's own."""
    torch = pytest.importorskip("torch", reason="the train extra installs it")
    from face_mtl_ros.runtime import cuda_graphs

    tried = []

    class Graph:
        def __init__(self, forward, shapes, bucket, *_):
            tried.append(bucket)
            if bucket > fits:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")

        def run(self, inputs):
            assert len(inputs["x"]) <= fits
            return {"twice": 2 * inputs["x"]}

    monkeypatch.setattr(cuda_graphs, "_Graph", Graph)
    for name in ("device", "stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: contextlib.nullcontext())
    for name in ("Stream", "graph_pool_handle", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    graphs = cuda_graphs.CudaGraphs(lambda tensors: tensors, {"x": (1,)}, "cuda")
    values = np.arange(10, dtype=np.float32)[:, None]
    if fits:
        np.testing.assert_array_equal(graphs.run({"x": values})["twice"], 2 * values)
        assert tried == [16, 8, 4, 2] and "cuda has memory for batches of 4 faces only" in caplog.text
    else:
        with pytest.raises(EngineError, match="cuda has too little memory left for one face; end what else uses it"):
            graphs.run({"x": values})


def test_a_processor_without_avx512_runs_fp32_and_says_what_it_lacks(bundle):
    """OpenVINO is told to take this processor for one with AVX2 alone, which most are that lack AVX512."""
    code = (
        "from pathlib import Path\n"
        "from face_mtl_ros.bundle.bundle import load_bundle\n"
        "from face_mtl_ros.runtime.engines import make_engine\n"
        f"bundle = load_bundle(Path({str(bundle.root)!r}))\n"
        "print(make_engine(bundle, 'openvino').precision)\n"
        "make_engine(bundle, 'openvino', precision='bf16')\n"
    )
    limited = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=limited)
    assert ended.stdout == "fp32\n" and ended.returncode == 1
    assert "EngineError: precision 'bf16' cannot be had on CPU here; it has fp32" in ended.stderr


def test_a_device_without_fp32_is_taken_in_fp16(bundle, monkeypatch):
    """As OpenVINO's NPUs; this one is played as far as the choice goes."""
    import openvino

    class Core:
        available_devices = ("CPU", "NPU")

        def get_property(self, _device, _name):
            return ["FP16", "INT8", "EXPORT_IMPORT"]

        def read_model(self, _graph):
            raise RuntimeError("no NPU is here")

    monkeypatch.setattr(openvino, "Core", Core)
    with pytest.raises(EngineError, match="cannot be compiled by OpenVINO for NPU in fp16: no NPU is here"):
        make_engine(bundle, "openvino", device="NPU")


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
