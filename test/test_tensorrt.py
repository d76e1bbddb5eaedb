"""What TensorRT for RTX compiles, which needs no GPU, where it is kept, and, where there is a GPU, what it answers."""

import threading
import time

import numpy as np
import onnx
import openvino as ov
import pytest
from tiny_world import TINY, know_tiny

from face_mtl_ros.bundle.bundle import load_bundle, write_manifest
from face_mtl_ros.bundle.manifest import DescriptorRecord
from face_mtl_ros.cli import main
from face_mtl_ros.runtime import tensorrt_library
from face_mtl_ros.runtime.buckets import BUCKETS, bucket_of, chunks, offsets
from face_mtl_ros.runtime.cuda import Cuda
from face_mtl_ros.runtime.engine import EMBEDDING, EngineError
from face_mtl_ros.runtime.engines import make_engine
from face_mtl_ros.runtime.graph import build_graph
from face_mtl_ros.runtime.plan_cache import bundle_key, cached_plan, file_name, plan_key, plans_dir, read_plan
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
KEY = {"model": "m", "precision": "fp16", "target": "sm86"}


@pytest.fixture(autouse=True)
def tiny(monkeypatch, home):
    know_tiny(monkeypatch)


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


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_each_precision_is_compiled_without_a_gpu(rtx, bundle, precision):
    from face_mtl_ros.runtime.tensorrt_build import build_plan

    plan, timings = build_plan(bundle, rtx, precision, "sm86")
    assert plan[:4] == b"vtrt" and timings == b""


@pytest.mark.parametrize(("precision", "type_name"), [("fp32", "FLOAT"), ("bf16", "BF16"), ("fp16", "HALF")])
def test_the_compiler_reads_the_graph_in_the_types_that_were_meant(rtx, bundle, precision, type_name):
    graph = build_graph(bundle)
    builder, network = parsed(rtx, graph if precision == "fp32" else reduce_precision(graph, precision))
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    types = {layer.get_output(0).dtype for layer in layers if layer.type == rtx.LayerType.CONVOLUTION}
    assert types == {rtx.DataType.__members__[type_name]}
    ends = [
        *(network.get_input(i) for i in range(network.num_inputs)),
        *(network.get_output(i) for i in range(network.num_outputs)),
    ]
    assert {end.dtype for end in ends} == {rtx.DataType.FLOAT}
    assert [end.name for end in ends] == ["crops", "descriptor/tiny", *COLUMNS, EMBEDDING]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm80", "sm89", "sm120", "portable"])
@pytest.mark.parametrize("preset", ["compact", "paper"])
def test_the_presets_are_compiled_for_every_target(rtx, tmp_path, preset, target):
    from face_mtl_ros.runtime.tensorrt_build import build_plan

    bundle = write_random_bundle(tmp_path / "large", preset, COLUMNS)
    assert len(build_plan(bundle, rtx, "fp16", target)[0]) > 1e6


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
        ("int3", "sm86", "precision 'int3' cannot be had from tensorrt_rtx; it has fp32, bf16, fp16"),
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
    assert exact == {"encoder/shrink/least"}
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


def test_of_two_that_want_an_engine_one_builds_and_the_other_waits():
    builds, found = [], []

    def build():
        builds.append(threading.get_ident())
        time.sleep(0.3)
        return b"plan"

    threads = [threading.Thread(target=lambda: found.append(cached_plan(KEY, build))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"plan"] * 3 and len(builds) == 1


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
