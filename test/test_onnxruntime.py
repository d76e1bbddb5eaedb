"""ONNX Runtime's engine: its CPU provider against OpenVINO, what it does for GPUs as far as a CPU shows it, errors."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from tiny_world import TINY, know_tiny

from face_mtl_ros.bundle.manifest import TEMPLATE, DescriptorRecord
from face_mtl_ros.runtime import engines, processor
from face_mtl_ros.runtime.engine import EMBEDDING, EngineError
from face_mtl_ros.runtime.engines import make_engine
from face_mtl_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine
from face_mtl_ros.runtime.random_bundle import write_random_bundle

ort = pytest.importorskip("onnxruntime", reason="the onnxruntime extra installs it")

COLUMNS = {"emotion": (["a", "b", "c"], []), "gender": (["male", "female"], ["emotion"])}
DESCRIPTOR = DescriptorRecord(
    name="tiny",
    sha256="0" * 64,
    dimensions=6,
    size=(32, 24),
    channels="rgb",
    mean=[127.5] * 3,
    std=[127.5] * 3,
    template=[(float(x), float(y)) for x, y in TEMPLATE],
    source="https://example.org/tiny.onnx",
    terms="none",
)
CPU_ALONE = "CUDAExecutionProvider" not in ort.get_available_providers()


@pytest.fixture(autouse=True)
def tiny(monkeypatch, home):
    know_tiny(monkeypatch)


@pytest.fixture
def with_avx512(tmp_path, monkeypatch):
    """Whatever this processor has."""
    (tmp_path / "cpuinfo").write_text("flags\t\t: avx2 avx512f\n")
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "cpuinfo")


@pytest.fixture
def bundle(tmp_path):
    """Two columns, of which the second draws on a foreign descriptor too."""
    return write_random_bundle(tmp_path / "bundle", TINY.name, COLUMNS, descriptors={"gender": DESCRIPTOR})


def crops(n):
    return np.random.default_rng(n).normal(size=(n, 1, 128, 128)).astype(np.float32)


def vectors(n):
    values = np.random.default_rng(n).normal(size=(n, DESCRIPTOR.dimensions)).astype(np.float32)
    return {"tiny": values / np.linalg.norm(values, axis=1, keepdims=True)}


def assert_same(found, expected):
    assert list(found) == list(expected) == [*COLUMNS, EMBEDDING]
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-4, err_msg=name)


def test_it_says_what_openvino_says(bundle):
    expected = make_engine(bundle, "openvino", precision="fp32").run(crops(5), vectors(5))
    engine = make_engine(bundle, "onnxruntime", device="cpu", threads=1)
    assert (engine.device, engine.precision) == ("cpu", "fp32")
    assert_same(engine.run(crops(5), vectors(5)), expected)


def test_the_batch_is_dynamic_down_to_none(bundle):
    engine = make_engine(bundle, "onnxruntime", device="cpu")
    inputs, described = crops(40), vectors(40)["tiny"]
    whole = engine.run(inputs, {"tiny": described})
    for n in (1, 3, 40, 0):
        part = engine.run(inputs[:n], {"tiny": described[:n]})
        assert_same(part, {name: values[:n] for name, values in whole.items()})


def test_what_is_returned_is_not_overwritten_by_the_next_call(bundle):
    engine = make_engine(bundle, "onnxruntime", device="cpu")
    first = engine.run(crops(2), vectors(2))
    before = {name: values.copy() for name, values in first.items()}
    engine.run(crops(3)[:2], vectors(2))
    assert_same(first, before)


def test_padding_to_buckets_changes_no_answer(bundle):
    """As on a GPU, whose part the CPU plays here."""
    engine = make_engine(bundle, "onnxruntime", device="cpu")
    inputs, described = crops(37), vectors(37)
    expected = engine.run(inputs, described)
    engine.device = "cuda:0"
    assert_same(engine.run(inputs, described), expected)


@pytest.mark.parametrize("fits", [8, 0])
def test_out_of_memory_means_smaller_batches_and_then_an_error(bundle, monkeypatch, caplog, fits):
    engine = make_engine(bundle, "onnxruntime", device="cpu")
    inputs, described = crops(20), vectors(20)
    expected = engine.run(inputs, described)
    engine.device, whole = "cuda:0", engine._infer

    said = iter(("Failed to allocate memory for a buffer of size 1", "std::bad_alloc", "CUBLAS_STATUS_ALLOC_FAILED"))

    def infer(given):
        if len(given["crops"]) > fits:
            raise RuntimeError(next(said, "Requested 1, Available memory of 0 is smaller; CUDA error 2: out of memory"))
        return whole(given)

    monkeypatch.setattr(engine, "_infer", infer)
    if fits:
        assert_same(engine.run(inputs, described), expected)
        assert "cuda:0 has memory for batches of 8 faces only" in caplog.text
    else:
        with pytest.raises(EngineError, match="cuda:0 has too little memory left for one face"):
            engine.run(inputs, described)


def test_another_failure_of_a_gpu_is_not_taken_for_too_little_memory(bundle, monkeypatch):
    engine = make_engine(bundle, "onnxruntime", device="cpu")

    def infer(_given):
        raise RuntimeError("CUDA failure 700: an illegal memory access was encountered")

    engine.device = "cuda:0"
    monkeypatch.setattr(engine, "_infer", infer)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        engine.run(crops(20), vectors(20))


def test_tensorrt_s_engines_are_kept_apart_by_all_that_they_are_made_from(bundle, monkeypatch):
    """ONNX Runtime's own key says nothing of the weights."""
    folders = []

    def session(_graph, _options, providers):
        folders.append(providers[0][1]["trt_engine_cache_path"])
        raise RuntimeError("there is no GPU")

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["TensorrtExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", session)
    heavier = {name: 2 * weights for name, weights in bundle.columns["emotion"].items()}
    changed = dataclasses.replace(bundle, columns={**bundle.columns, "emotion": heavier})
    for own, precision in ((bundle, "fp16"), (bundle, "fp32"), (changed, "fp16"), (bundle, "fp16")):
        with pytest.raises(EngineError, match="cannot be run by onnxruntime on tensorrt in .*: there is no GPU"):
            make_engine(own, "onnxruntime", device="tensorrt", precision=precision)
    assert len(set(folders)) == 3 and folders[0] == folders[3]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"device": "GPU"}, "device 'GPU' is unknown to engine 'onnxruntime'; use cpu, cuda, cuda:N, tensorrt"),
        ({"device": "cpu", "precision": "fp16"}, "'fp16' cannot be had .* on cpu; it has fp32, int8"),
        ({"device": "cpu", "precision": "int8"}, "needs .*int8-cpu.*not there; make it: face-mtl export --model"),
    ],
)
def test_what_cannot_be_had_is_named(bundle, options, complaint):
    with pytest.raises(EngineError, match=complaint):
        make_engine(bundle, "onnxruntime", **options)


@pytest.mark.skipif(not CPU_ALONE, reason="this ONNX Runtime has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tensorrt"])
def test_a_missing_provider_is_named_with_what_brings_it(bundle, device):
    with pytest.raises(EngineError, match=f"device '{device}' is not there: .*CPUExecution.*onnxruntime-gpu"):
        make_engine(bundle, "onnxruntime", device=device)


def test_a_provider_that_does_not_load_is_no_silent_cpu(bundle, monkeypatch):
    """ONNX Runtime itself goes on with the CPU."""
    real = ort.InferenceSession
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", lambda *a, **k: real(*a, providers=["CPUExecutionProvider"]))
    with pytest.raises(EngineError, match="device 'cuda' cannot be used: CUDAExecutionProvider does not load"):
        make_engine(bundle, "onnxruntime", device="cuda")


@pytest.mark.parametrize(
    ("cpu_info", "precision", "taken", "why"),
    [
        (
            "flags\t\t: fpu avx avx2\n",
            "auto",
            "onnxruntime",
            "; the processor has no AVX-512; onnxruntime is installed",
        ),
        ("flags\t\t: fpu avx avx2 avx512f\n", "auto", "openvino", "; openvino is installed"),
        ("Features\t: fp asimd\n", "auto", "openvino", "; openvino is installed"),  # not an x86 one
        (None, "fp32", "openvino", "; openvino is installed"),
    ],
)
def test_auto_takes_it_where_it_is_the_faster_one(
    bundle, tmp_path, monkeypatch, caplog, cpu_info, precision, taken, why
):
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "cpuinfo")
    if cpu_info:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{cpu_info}")
    caplog.set_level("INFO")
    assert make_engine(bundle, "auto", device="cpu", precision=precision).name == taken
    assert f"(auto: device is cpu{why})" in caplog.text


def test_auto_takes_it_for_int8_too_where_it_is_the_faster_one(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu avx avx2\n")
    monkeypatch.setitem(engines.MAKERS, "onnxruntime", lambda *_: OnnxRuntimeEngine(bundle, "cpu"))
    assert make_engine(bundle, "auto", device="cpu", precision="int8").name == "onnxruntime"


def test_auto_on_a_gpu_tries_one_engine_after_the_other(bundle, tmp_path, monkeypatch, caplog):
    """The GPU is played: its node is there, and ONNX Runtime, told to take CUDA, takes the CPU."""
    caplog.set_level("INFO")
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(engines, "NVIDIA_NODES", (tmp_path / "nvidiactl",))
    monkeypatch.setattr(engines, "tensorrt_why_not", lambda _device: "tensorrt is not installed")
    monkeypatch.setattr(engines, "_torch_why_not", lambda: None)
    asked = []

    def no_torch(_bundle, device, *_):
        asked.append(("torch", device))
        raise EngineError("torch sees no CUDA device")

    def on_cuda(_bundle, device, *_):
        asked.append(("onnxruntime", device))
        return OnnxRuntimeEngine(bundle, "cpu")

    monkeypatch.setitem(engines.MAKERS, "torch", no_torch)
    monkeypatch.setitem(engines.MAKERS, "onnxruntime", on_cuda)
    assert make_engine(bundle, "auto").name == "onnxruntime"
    assert asked == [("torch", "cuda"), ("onnxruntime", "cuda")]
    assert "engine torch is not taken: torch sees no CUDA device" in caplog.text
    assert "(auto: tensorrt is not installed; torch does not run the model here; it and an NVIDIA GPU" in caplog.text


@pytest.mark.skipif(not CPU_ALONE, reason="this ONNX Runtime has CUDA")
def test_auto_on_a_cuda_device_that_no_engine_can_use_says_why_each_cannot(bundle, monkeypatch):
    monkeypatch.setattr(engines, "tensorrt_why_not", lambda _device: "tensorrt is not installed")
    with pytest.raises(EngineError, match="'cuda:3' cannot be had: tensorrt is .*; .*torch.*; .*onnxruntime-gpu"):
        make_engine(bundle, "auto", device="cuda:3")


def test_auto_takes_it_where_openvino_is_missing(bundle, with_avx512, monkeypatch, caplog):
    find = engines.importlib.util.find_spec
    monkeypatch.setattr(
        engines.importlib.util, "find_spec", lambda name, *rest: None if name == "openvino" else find(name, *rest)
    )
    caplog.set_level("INFO")
    engine = make_engine(bundle, "auto", device="cpu")
    assert (engine.name, engine.precision) == ("onnxruntime", "fp32")
    assert "(auto: device is cpu; openvino not installed) (precision auto: " in caplog.text


def test_it_does_without_torch_and_openvino(bundle):
    code = (
        "import sys\n"
        "from dataclasses import replace\n"
        "from face_mtl_ros.networks.presets import PRESETS\n"
        f"PRESETS['tiny'] = replace(PRESETS['compact'], name='tiny', width={TINY.width}, "
        f"hidden_units={TINY.hidden_units})\n"
        "from face_mtl_ros.bundle.bundle import load_bundle\n"
        "from face_mtl_ros.runtime.engines import make_engine\n"
        f"make_engine(load_bundle({str(bundle.root)!r}), 'onnxruntime', 'cpu')\n"
        "assert not {'torch', 'openvino'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_where_it_is_missing_it_says_what_to_install(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match=r"needs onnxruntime, which is not installed: pip install 'face_mtl_ros\["):
        make_engine(bundle, "onnxruntime")
