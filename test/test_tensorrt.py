"""What TensorRT for RTX compiles, which needs no GPU, where it is kept, and, where there is a GPU, what it answers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from played_gpu import PlayedGpu, play
from tiny_world import TINY, know_tiny

from face_mtl_ros.bundle.bundle import load_bundle, write_manifest
from face_mtl_ros.bundle.manifest import DescriptorRecord
from face_mtl_ros.cli import main
from face_mtl_ros.runtime import processor, tensorrt_library
from face_mtl_ros.runtime.buckets import BUCKETS, bucket_of, chunks, offsets
from face_mtl_ros.runtime.bundle_key import bundle_key
from face_mtl_ros.runtime.cuda import Cuda
from face_mtl_ros.runtime.engine import EMBEDDING, EngineError
from face_mtl_ros.runtime.engine_cache import prune
from face_mtl_ros.runtime.engines import make_engine
from face_mtl_ros.runtime.graph import build_graph
from face_mtl_ros.runtime.int8_model import GPU, int8_dir, int8_name, write_int8
from face_mtl_ros.runtime.plan_cache import cached_plan, file_name, plan_key, plans_dir, read_plan
from face_mtl_ros.runtime.random_bundle import write_random_bundle
from face_mtl_ros.runtime.reduced_precision import reduce_precision

COLUMNS = {"emotion": (["a", "b", "c"], []), "gender": (["male", "female"], ["emotion"])}
DESCRIPTOR = DescriptorRecord(
    name="tiny",
    sha256="0" * 64,
    dimensions=6,
    size=(32, 24),
    channels="rgb",
    mean=[127.5] * 3,
    std=[127.5] * 3,
    template=[(0.342, 0.46), (0.656, 0.46), (0.5, 0.64), (0.37, 0.825), (0.631, 0.823)],
    source="https://example.org/tiny.onnx",
    terms="none",
)
KEY = {"model": "m", "precision": "fp16", "target": "sm86", "version": "1.7"}
MODELS = sorted(file.parent for file in (Path(__file__).parents[1] / "models").glob("*/manifest.json"))


@pytest.fixture(autouse=True)
def tiny(monkeypatch, home, tmp_path):
    know_tiny(monkeypatch)
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "none")  # or `auto` would go by this machine's processor


@pytest.fixture
def bundle(tmp_path):
    """Two columns, of which the second draws on a foreign descriptor too."""
    return write_random_bundle(tmp_path / "bundle", TINY.name, COLUMNS, descriptors={"gender": DESCRIPTOR})


@pytest.fixture(scope="module")
def rtx():
    pytest.importorskip("tensorrt_rtx", reason="the tensorrt extra installs it")
    return tensorrt_library.load_library("tensorrt_rtx")


def crops(n):
    return np.random.default_rng(n).normal(size=(n, 1, 128, 128)).astype(np.float32)


def vectors(n):
    values = np.random.default_rng(n).normal(size=(n, DESCRIPTOR.dimensions)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def quantise(bundle):
    """Make the INT8 model where it is looked for, from noise."""
    pytest.importorskip("onnxruntime", reason="the onnxruntime extra installs it")
    from face_mtl_ros.runtime.quantization import Quantizer

    described = {name: vectors(2)[:, : record.dimensions] for name, record in bundle.manifest.descriptors.items()}
    model = Quantizer(bundle, crops(2), described).quantize(GPU)
    write_int8(int8_dir() / int8_name(bundle, GPU), bundle, GPU, model, {})


def parsed(library, graph):
    log = tensorrt_library.notes(library)
    builder = library.Builder(log)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert library.OnnxParser(network, log).parse(graph.SerializeToString()), log.reason()
    return builder, network


def gpu():
    try:
        return Cuda()
    except EngineError as error:
        pytest.skip(f"no NVIDIA GPU: {error}")


# --- compiling


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "int8"])
def test_each_precision_is_compiled_without_a_gpu(rtx, bundle, precision):
    from face_mtl_ros.runtime.tensorrt_build import build_plan

    if precision == "int8":
        quantise(bundle)
    plan, timings = build_plan(bundle, rtx, precision, "sm86")
    assert plan[:4] == b"vtrt" and timings == b""


@pytest.mark.parametrize(("precision", "type_name"), [("fp32", "FLOAT"), ("bf16", "BF16"), ("fp16", "HALF")])
def test_the_compiler_reads_the_graph_in_the_types_that_were_meant(rtx, bundle, precision, type_name):
    graph = build_graph(bundle)
    builder, network = parsed(rtx, graph if precision == "fp32" else reduce_precision(graph, precision))
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    first, *others = [layer.get_output(0).dtype for layer in layers if layer.type == rtx.LayerType.CONVOLUTION]
    assert set(others) == {rtx.DataType.__members__[type_name]}
    assert first == (rtx.DataType.FLOAT if precision == "bf16" else others[0])  # of what bf16 loses, half is lost there
    ends = [
        *(network.get_input(i) for i in range(network.num_inputs)),
        *(network.get_output(i) for i in range(network.num_outputs)),
    ]
    assert {end.dtype for end in ends} == {rtx.DataType.FLOAT}
    assert [end.name for end in ends] == ["crops", "descriptor/tiny", *COLUMNS, EMBEDDING]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("precision", ["fp32", "fp16", pytest.param("int8", marks=pytest.mark.slow)])
def test_every_model_that_ships_is_compiled(rtx, home, model, precision):
    from face_mtl_ros.runtime.tensorrt_build import build_plan

    bundle = load_bundle(model)
    if precision == "int8":
        quantise(bundle)
    plan, _ = build_plan(bundle, rtx, precision, "sm89")
    assert plan[:4] == b"vtrt" and len(plan) > 1e6


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["compact", "paper"])
def test_int8_is_compiled_for_every_kind_of_gpu(rtx, home, tmp_path, preset):
    from face_mtl_ros.runtime.tensorrt_build import build_plan

    bundle = write_random_bundle(tmp_path / "bundle", preset, COLUMNS, descriptors={"gender": DESCRIPTOR})
    quantise(bundle)
    for target in ("sm80", "sm120", "portable"):
        assert build_plan(bundle, rtx, "int8", target)[0][:4] == b"vtrt"


@pytest.mark.parametrize("preset", ["compact", pytest.param("paper", marks=pytest.mark.slow)])
def test_the_presets_are_compiled_for_every_target(rtx, tmp_path, preset):
    from face_mtl_ros.runtime.tensorrt_build import build_plan

    bundle = write_random_bundle(tmp_path / "large", preset, COLUMNS)
    assert {"sm75", "sm86", "sm89", "sm120", "portable"} <= set(tensorrt_library.targets(rtx))
    for target in tensorrt_library.targets(rtx):
        assert len(build_plan(bundle, rtx, "fp16", target)[0]) > 1e6, target


def test_the_profile_spans_every_bucket(rtx, bundle):
    from face_mtl_ros.runtime.tensorrt_build import BATCHES, _profile

    builder, network = parsed(rtx, build_graph(bundle))
    profile = _profile(builder, network)
    assert [tuple(shape) for shape in profile.get_shape("crops")] == [(batch, 1, 128, 128) for batch in BATCHES]
    assert [tuple(shape) for shape in profile.get_shape("descriptor/tiny")] == [(batch, 6) for batch in BATCHES]
    assert BATCHES[0] == BUCKETS[0] and BATCHES[-1] == BUCKETS[-1]


@pytest.mark.parametrize(
    ("precision", "target", "complaint"),
    [
        ("int3", "sm86", "precision 'int3' cannot be had from tensorrt_rtx; it has fp32, bf16, fp16, int8"),
        ("bf16", "sm75", "'bf16' cannot be had from tensorrt_rtx for sm75; it has fp32, fp16, int8"),
        ("fp16", "sm42", r"target 'sm42' is unknown to tensorrt_rtx .*; it compiles for .*sm86"),
    ],
)
def test_what_cannot_be_compiled_is_named(rtx, bundle, precision, target, complaint):
    from face_mtl_ros.runtime.tensorrt_build import build_plan

    with pytest.raises(EngineError, match=complaint):
        build_plan(bundle, rtx, precision, target)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_reduced_graph_is_half_as_large_and_says_the_same(bundle, precision):
    whole = build_graph(bundle)
    reduced = reduce_precision(whole, precision)
    floats = {onnx.TensorProto.FLOAT}
    assert {t.type.tensor_type.elem_type for t in [*reduced.graph.input, *reduced.graph.output]} == floats
    exact = {t.name for t in reduced.graph.initializer if t.data_type in floats}
    first = {f"encoder/layers.0/{part}" for part in ("weight", "bias")} if precision == "bf16" else set()
    assert exact == {"encoder/shrink/least"} | first
    core, inputs = ov.Core(), {"crops": crops(3), "descriptor/tiny": vectors(3)}
    answers = []
    for graph in (whole, reduced):
        model = core.read_model(graph.SerializeToString())
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        answers.append({output.get_any_name(): values for output, values in compiled(inputs).items()})
    assert list(answers[0]) == list(answers[1]) == [*COLUMNS, EMBEDDING]
    for name, values in answers[0].items():
        tolerance = (0.01 if precision == "fp16" else 0.05) * np.abs(values).max()
        assert 0 < np.abs(answers[1][name] - values).max() < tolerance, name


# --- keeping


def test_an_engine_is_built_once_and_found_again():
    assert cached_plan(KEY, lambda: b"plan") == b"plan"
    assert cached_plan(KEY, lambda: pytest.fail("built again")) == b"plan"
    assert cached_plan({**KEY, "target": "sm89"}, lambda: b"other") == b"other"
    assert not list(plans_dir().glob(".*"))


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (lambda data: data[:-1], "cut or corrupt"),
        (lambda data: data[:-1] + b"X", "cut or corrupt"),
        (lambda data: data[:20], "no engine of this package"),
        (lambda data: b"", "no engine of this package"),
        (lambda data: b"[]\n" + data, "no engine of this package"),
        (lambda data: data.replace(b"sm86", b"sm89"), r"for something else \(target\)"),
        (lambda data: data.replace(b'"version": "1.7"', b'"version": "1.6"'), r"for something else \(version\)"),
        (lambda data: data.replace(b'"model": "m"', b'"model": "n"'), r"for something else \(model\)"),
    ],
)
def test_what_is_not_whole_or_foreign_is_built_anew(caplog, harm, complaint):
    cached_plan(KEY, lambda: b"plan")
    file = plans_dir() / file_name(KEY)
    file.write_bytes(harm(file.read_bytes()))
    assert cached_plan(KEY, lambda: b"again") == b"again"
    assert complaint.replace("\\", "") in caplog.text
    assert read_plan(file, KEY) == b"again"


def test_a_renamed_engine_is_not_taken_for_another(caplog):
    cached_plan(KEY, lambda: b"plan")
    other = {**KEY, "precision": "fp32"}
    (plans_dir() / file_name(KEY)).rename(plans_dir() / file_name(other))
    assert cached_plan(other, lambda: b"own") == b"own"
    assert "for something else (precision)" in caplog.text


def test_of_processes_that_want_an_engine_one_builds_and_the_others_wait(home):
    code = (
        "import os, time\n"
        "from face_mtl_ros.runtime.plan_cache import cached_plan\n"
        "def build():\n"
        "    time.sleep(0.5)\n"
        "    return str(os.getpid()).encode()\n"
        f"print(cached_plan({KEY!r}, build).decode())\n"
    )
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    built_by = [process.communicate()[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(set(built_by)) == 1 and int(built_by[0]) in {process.pid for process in processes}


def test_a_build_that_fails_leaves_nothing_behind():
    def fail():
        raise EngineError("no")

    with pytest.raises(EngineError):
        cached_plan(KEY, fail)
    assert cached_plan(KEY, lambda: b"plan") == b"plan"


def test_a_folder_that_cannot_be_written_costs_a_warning_only(monkeypatch, caplog):
    monkeypatch.setenv("FACE_MTL_HOME", "/proc/none")
    assert cached_plan(KEY, lambda: b"plan") == b"plan"
    assert "/proc/none" in caplog.text and "set FACE_MTL_HOME" in caplog.text


def test_what_an_engine_is_known_by(rtx, bundle, tmp_path):
    """Other words for a class change no engine; other weights, another GPU or precision do."""
    key = plan_key(bundle, rtx, "fp16", "sm86")
    assert key["version"] == rtx.__version__ and key["library"] == "tensorrt_rtx"
    column = bundle.manifest.columns[0]
    renamed = column.model_copy(update={"labels": ["x", "y", "z"]})
    manifest = bundle.manifest.model_copy(update={"columns": [renamed, *bundle.manifest.columns[1:]]})
    write_manifest(bundle.root, manifest)
    again = load_bundle(bundle.root)
    assert again.version != bundle.version and bundle_key(again) == bundle_key(bundle)
    other = write_random_bundle(tmp_path / "other", TINY.name, COLUMNS, seed=1)
    assert bundle_key(other) != bundle_key(bundle)
    names = {file_name(plan_key(bundle, rtx, p, t)) for p in ("fp16", "fp32") for t in ("sm86", "sm89")}
    assert len(names) == 4


def test_export_writes_what_a_machine_with_such_a_gpu_looks_for(rtx, bundle, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["export", "--model", str(bundle.root), "--engine", "tensorrt", "--target", "sm89"]
    assert main([*arguments, "--output", str(out)]) == 0
    key = plan_key(bundle, rtx, "fp16", "sm89")
    plan = read_plan(out / file_name(key), key)
    assert plan is not None and plan[:4] == b"vtrt"
    assert file_name(key) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "status", "complaint"),
    [
        (["--engine", "tensorrt"], 2, "--engine tensorrt needs --target"),
        (["--engine", "onnx", "--target", "sm86"], 2, "leave --target"),
        (["--engine", "onnx", "--precision", "fp16"], 2, "leave --target"),
    ],
)
def test_export_says_what_does_not_go_together(bundle, tmp_path, capsys, options, status, complaint):
    assert main(["export", "--model", str(bundle.root), "--output", str(tmp_path), *options]) == status
    assert complaint in capsys.readouterr().err


# --- what is missing


def test_without_a_library_it_says_what_to_install(bundle, monkeypatch):
    monkeypatch.setattr(tensorrt_library, "LIBRARIES", ("none_of_this_name",))
    with pytest.raises(EngineError, match=r"neither is installed: pip install 'face_mtl_ros\[tensorrt\]'"):
        make_engine(bundle, "tensorrt")


def test_without_a_gpu_it_says_so_and_auto_takes_another(rtx, bundle, caplog):
    try:
        Cuda()
    except EngineError as error:
        missing = str(error)
    else:
        pytest.skip("there is an NVIDIA GPU")
    with pytest.raises(EngineError, match="needs (cuda-bindings|an NVIDIA GPU)"):
        make_engine(bundle, "tensorrt")
    caplog.set_level("INFO")
    assert make_engine(bundle, "auto").name == "openvino"
    assert f"(auto: {missing}; openvino is installed)" in caplog.text


def test_a_driver_without_a_gpu_is_said(rtx, bundle, monkeypatch):
    play(monkeypatch, PlayedGpu(count=0), build_graph(bundle).SerializeToString())
    with pytest.raises(EngineError, match="needs an NVIDIA GPU and its driver, .*: no CUDA-capable device is detected"):
        make_engine(bundle, "tensorrt")


def test_a_gpu_that_is_not_there_is_named(rtx, bundle, monkeypatch):
    play(monkeypatch, PlayedGpu(count=2), build_graph(bundle).SerializeToString())
    with pytest.raises(EngineError, match="device 'cuda:2' is not there: CUDA sees cuda:0, cuda:1"):
        make_engine(bundle, "tensorrt", device="cuda:2")


def test_a_library_whose_own_libraries_are_not_on_the_path_is_said(bundle, tmp_path):
    """As of a Jetson's TensorRT where LD_LIBRARY_PATH lacks its folder."""
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.py").write_text("import ctypes\n\nctypes.CDLL('libnvinfer_not_there.so.10')\n")
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from face_mtl_ros.runtime import tensorrt_library\n"
        "from face_mtl_ros.runtime.engine import EngineError\n"
        "tensorrt_library.LIBRARIES = ('tensorrt',)\n"
        "try:\n"
        "    tensorrt_library.choose((8, 7))\n"
        "except EngineError as error:\n"
        "    print(error)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    complaint = ended.stdout.strip()
    assert complaint.startswith("tensorrt is installed and does not load: libnvinfer_not_there.so.10: ")
    assert "LD_LIBRARY_PATH" in complaint and "\n" not in complaint


def test_auto_on_another_device_does_not_look_for_a_gpu(bundle, caplog):
    caplog.set_level("INFO")
    assert make_engine(bundle, "auto", device="cpu").name == "openvino"
    assert "(auto: device is cpu; openvino is installed)" in caplog.text


# --- batches


def test_each_batch_goes_into_the_smallest_bucket_that_holds_it():
    assert [bucket_of(n) for n in (1, 2, 3, 4, 5, 8, 9, 31, 32)] == [1, 2, 4, 4, 8, 8, 16, 32, 32]


def test_larger_batches_are_cut():
    assert list(chunks(0)) == []
    assert list(chunks(32)) == [(0, 32)]
    assert list(chunks(70)) == [(0, 32), (32, 64), (64, 70)]
    assert list(chunks(5, largest=2)) == [(0, 2), (2, 4), (4, 5)]


def test_tensors_of_a_block_do_not_overlap_and_are_aligned():
    found, length = offsets({"crops": (1, 128, 128), "a": (3,), "b": (100,)}, 4)
    assert found == {"crops": 0, "a": 65536, "b": 65600}
    assert length == 65600 + 448


# --- on a GPU that the CPU plays


def test_batches_are_padded_cut_and_run_as_graphs(rtx, bundle, monkeypatch):
    gpu = PlayedGpu()
    play(monkeypatch, gpu, build_graph(bundle).SerializeToString())
    inputs, described = crops(37), {"tiny": vectors(37)}
    expected = make_engine(bundle, "openvino", device="cpu", precision="fp32").run(inputs, described)
    engine = make_engine(bundle, "auto")
    assert (engine.name, engine.device, engine.precision) == ("tensorrt", "cuda:0", "fp16")
    for n, launched in ((37, 2), (1, 1), (3, 1), (0, 0)):
        before = gpu.launched
        found = engine.run(inputs[:n], {"tiny": described["tiny"][:n]})
        assert gpu.launched - before == launched
        assert list(found) == [*COLUMNS, EMBEDDING]
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values[:n], rtol=1e-3, atol=1e-4, err_msg=f"{name}, batch {n}")
    del engine
    assert not gpu.blocks, "device memory is left behind"


@pytest.mark.parametrize(("faces", "largest"), [(9, 8), (33.5, 32), (32.01, 16)])
def test_where_memory_is_short_batches_are_smaller(rtx, bundle, monkeypatch, caplog, faces, largest):
    """The last has room for 32 faces' inference and none for their pictures."""
    play(monkeypatch, PlayedGpu(int(faces * (1 << 20))), build_graph(bundle).SerializeToString(), 1 << 20)
    inputs, described = crops(20), {"tiny": vectors(20)}
    expected = make_engine(bundle, "openvino", device="cpu", precision="fp32").run(inputs, described)
    engine = make_engine(bundle, "tensorrt")
    for name, values in engine.run(inputs, described).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-3, atol=1e-4, err_msg=name)
    assert (f"memory for batches of {largest} faces only" in caplog.text) == (largest < 32)


def test_without_memory_for_one_face_it_says_so(rtx, bundle, monkeypatch):
    play(monkeypatch, PlayedGpu(1 << 20), build_graph(bundle).SerializeToString(), 1 << 20)
    with pytest.raises(EngineError, match="sm89 Played GPU has too little memory left for one face, 1 MB; end what"):
        make_engine(bundle, "tensorrt")


def test_an_engine_is_compiled_once_and_anew_where_it_is_damaged(rtx, bundle, monkeypatch, caplog):
    play(monkeypatch, PlayedGpu(), build_graph(bundle).SerializeToString())
    caplog.set_level("INFO")
    made = [make_engine(bundle, "tensorrt")]
    (file,) = plans_dir().glob("*.engine")
    assert caplog.text.count("tensorrt_rtx compiles") == 1
    made.append(make_engine(bundle, "tensorrt"))
    assert caplog.text.count("tensorrt_rtx compiles") == 1
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    make_engine(bundle, "tensorrt")
    assert caplog.text.count("tensorrt_rtx compiles") == 2 and "is cut or corrupt; compiling anew" in caplog.text
    assert read_plan(file, plan_key(bundle, rtx, "fp16", "sm89")) is not None
    del made
    make_engine(bundle, "tensorrt", precision="fp32")
    assert len(prune(0)) >= 2 and not list(plans_dir().glob("*.engine"))


def test_an_engine_in_use_stays(rtx, bundle, monkeypatch):
    play(monkeypatch, PlayedGpu(), build_graph(bundle).SerializeToString())
    engine = make_engine(bundle, "tensorrt")
    kept = {*plans_dir().glob("*.engine"), *plans_dir().glob("*.kernels")}
    assert len(kept) == 2
    make_engine(bundle, "tensorrt", precision="fp32")
    removed = prune(0)
    assert removed and not kept & {*removed} and all(file.exists() for file in kept)
    assert engine.run(crops(1), {"tiny": vectors(1)})["emotion"].shape == (1, 3)


def test_what_the_gpu_cannot_run_is_said_and_auto_takes_another(rtx, bundle, monkeypatch, caplog):
    reason = "The engine plan file is generated on an incompatible device, expecting compute 9.0 got compute 8.9"
    play(monkeypatch, PlayedGpu(), build_graph(bundle).SerializeToString(), refuses=reason)
    with pytest.raises(EngineError, match="cannot run its engine on sm89 Played GPU: .*incompatible device"):
        make_engine(bundle, "tensorrt")
    assert make_engine(bundle, "auto").name == "openvino"
    assert "engine tensorrt is not taken: " in caplog.text


def test_int8_on_a_gpu_wants_its_model(rtx, bundle, monkeypatch):
    play(monkeypatch, PlayedGpu(), build_graph(bundle).SerializeToString())
    with pytest.raises(EngineError, match="needs .*int8-gpu-.*not there; .*--engine tensorrt --target portable"):
        make_engine(bundle, "tensorrt", precision="int8")


# --- where there is a GPU


@pytest.mark.parametrize(("name", "precision"), [("tensorrt", "fp32"), ("tensorrt", "fp16"), ("torch", "fp16")])
def test_on_a_gpu_the_answers_are_those_of_the_cpu(bundle, name, precision):
    gpu()
    pytest.importorskip("torch", reason="the reference is torch, which the train extra installs")
    engine = make_engine(bundle, name, device="cuda", precision=precision)
    inputs, described = crops(37), vectors(37)
    expected = make_engine(bundle, "torch", device="cpu", precision="fp32").run(inputs, {"tiny": described})
    for n in (37, 1, 3, 32, 0):
        found = engine.run(inputs[:n], {"tiny": described[:n]})
        for task, values in expected.items():
            tolerance = (1e-4 if precision == "fp32" else 0.02) * np.abs(values).max()
            np.testing.assert_allclose(found[task], values[:n], atol=tolerance, err_msg=f"{task}, batch {n}")
