"""INT8: what is quantised and what not, the rule by which it is kept, where it lies and who can run it."""

from collections.abc import Callable
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
from tiny_world import SHAPES, TINY, draw_pictures, know_tiny

from face_mtl_ros.bundle.bundle import load_bundle, write_manifest
from face_mtl_ros.bundle.files import write_tensors
from face_mtl_ros.cli import main
from face_mtl_ros.datasets.crops import read_crop
from face_mtl_ros.runtime import tensorrt_library
from face_mtl_ros.runtime.engine import EMBEDDING, EngineError
from face_mtl_ros.runtime.engines import make_engine
from face_mtl_ros.runtime.graph import build_graph
from face_mtl_ros.runtime.int8_model import CPU, GPU, int8_dir, int8_name, read_int8, read_notes, write_int8
from face_mtl_ros.runtime.plan_cache import file_name, plan_key, read_plan
from face_mtl_ros.runtime.random_bundle import write_random_bundle
from face_mtl_ros.vision.alignment import TEMPLATE, normalize

pytest.importorskip("onnxruntime", reason="the onnxruntime extra installs it")

COLUMNS = {"look": (["a", "b"], []), "mood": (["x", "y", "z"], ["look"])}


@pytest.fixture(autouse=True)
def tiny(monkeypatch, home):
    know_tiny(monkeypatch)


def change(bundle, encoder: Callable | None = None, look: Callable | None = None):
    """The bundle with other weights; each function changes copies of the tensors in place."""
    root, manifest = bundle.root, bundle.manifest
    if encoder:
        tensors = {name: np.array(tensor) for name, tensor in bundle.encoder.items()}
        encoder(tensors)
        record = manifest.encoder.model_copy(update={"file": write_tensors(root, "encoder.safetensors", tensors)})
        manifest = manifest.model_copy(update={"encoder": record})
    if look:
        tensors = {name: np.array(tensor) for name, tensor in bundle.columns["look"].items()}
        look(tensors)
        record = manifest.columns[0].model_copy(
            update={"file": write_tensors(root, "columns/look.safetensors", tensors)}
        )
        manifest = manifest.model_copy(update={"columns": [record, *manifest.columns[1:]]})
    write_manifest(root, manifest)
    return load_bundle(root)


@pytest.fixture
def bundle(tmp_path):
    return write_random_bundle(tmp_path / "bundle", TINY.name, COLUMNS)


def spoil(tensors):
    """A channel that the encoder's last layer does not read grows so large that rounding swallows the others."""
    tensors["layers.11.norm.weight"][0] *= 1e5
    tensors["layers.12.conv.weight"][:, 0] = 0


def teach(bundle, folder):
    """Make column `look` right: of pictures that it tells apart clearly its own answers are the labels.

    Returns:
        The bundle, and the pictures as --calibrate takes them and as crops.
    """
    rng = np.random.default_rng(0)
    pictures = [SHAPES[["disc", "stripes", "bars", "noise"][i % 4]](i, rng) for i in range(120)]
    (folder / "all").mkdir(parents=True)
    files = [folder / "all" / f"{i}.png" for i in range(len(pictures))]
    for file, picture in zip(files, pictures, strict=True):
        cv2.imwrite(str(file), picture)
    inputs = normalize(np.stack([read_crop(file, TEMPLATE) for file in files])[:, None].astype(np.float32))
    logits = make_engine(bundle, "onnxruntime", "cpu").run(inputs)["look"]
    surplus = logits[:, 1] - logits[:, 0]
    middle = (surplus.max() + surplus.min()) / 2

    def balance(tensors):
        tensors["classifier.bias"][0] += middle

    clear = np.abs(surplus - middle) > 0.25 * np.ptp(surplus)
    for i in np.flatnonzero(clear):
        label = folder / "data" / ("b" if surplus[i] > middle else "a")
        label.mkdir(parents=True, exist_ok=True)
        files[i].rename(label / files[i].name)
    return SimpleNamespace(
        bundle=change(bundle, look=balance), data=f"folder:task=look={folder / 'data'}", inputs=inputs[clear]
    )


@pytest.fixture
def kept(bundle):
    """The bundle with a file where its INT8 model is looked for, which for once is not quantised."""
    write_int8(int8_dir() / int8_name(bundle, CPU), bundle, CPU, build_graph(bundle), {"accuracy": "none"})
    return bundle


def export(bundle, out, *options):
    return main(["export", "--model", str(bundle.root), "--precision", "int8", "--output", str(out), *options])


def crops(n):
    return np.random.default_rng(n).normal(size=(n, 1, 128, 128)).astype(np.float32)


def convolutions(model):
    """Name of each convolution to whether it is quantised."""
    quantised = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return {node.name: node.input[1] in quantised for node in model.graph.node if node.op_type == "Conv"}


@pytest.mark.parametrize("kind", [CPU, GPU])
def test_all_convolutions_but_the_first_are_quantised(bundle, kind):
    from face_mtl_ros.runtime.quantization import Quantizer

    model = Quantizer(bundle, crops(9)).quantize(kind)
    found = convolutions(model)
    assert [name for name, quantised in found.items() if not quantised] == [next(iter(found))]
    assert [output.name for output in model.graph.output] == [*COLUMNS, EMBEDDING]
    points = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer if i.name.endswith("zero_point")}
    activations = {node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert {points[name].dtype for name in activations} == {np.dtype(np.uint8 if kind == CPU else np.int8)}


def test_the_kind_for_gpus_is_as_tensorrt_wants_it(bundle):
    """Zero points of 0, a scale a channel of the weights and one an activation, exact biases, and nothing rounded
    between a convolution and its non-linearity, which would keep TensorRT from making one kernel of them."""
    from face_mtl_ros.runtime.quantization import Quantizer

    graph = Quantizer(bundle, crops(9)).quantize(GPU).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert values[node.input[2]].dtype == np.int8 and not values[node.input[2]].any()
        if node.op_type == "QuantizeLinear":
            assert values[node.input[1]].shape == () and makers[node.input[0]].op_type != "Conv"
        if node.op_type == "Conv":
            assert values[node.input[2]].dtype == np.float32
            if (weights := makers.get(node.input[1])) is not None:
                whole, scale = values[weights.input[0]], values[weights.input[1]]
                assert whole.dtype == np.int8 and scale.shape == whole.shape[:1] and (np.abs(whole) <= 127).all()


@pytest.mark.parametrize("kind", [CPU, GPU])
def test_what_is_quantised_says_nearly_the_same(bundle, kind):
    """By ONNX Runtime on the CPU, which runs the kind for GPUs too."""
    from face_mtl_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine
    from face_mtl_ros.runtime.quantization import Quantizer

    model = Quantizer(bundle, crops(16)).quantize(kind).SerializeToString()
    exact = OnnxRuntimeEngine(bundle, "cpu", "fp32").run(crops(20))
    for task, values in OnnxRuntimeEngine(bundle, "cpu", "int8", graph=model).run(crops(20)).items():
        spread = np.abs(exact[task]).max()
        assert 0 < np.abs(values - exact[task]).max() < 0.2 * spread, task


def test_a_column_can_stay_exact(bundle):
    from face_mtl_ros.runtime.quantization import Quantizer

    found = convolutions(Quantizer(bundle, crops(8)).quantize(CPU, {"mood"}))
    assert not any(quantised for name, quantised in found.items() if name.startswith("mood/"))
    assert all(quantised for name, quantised in found.items() if name.startswith("look/"))


def test_it_is_calibrated_scored_kept_and_run(bundle, tmp_path, capsys):
    taught = teach(bundle, tmp_path)
    assert export(taught.bundle, tmp_path / "out", "--calibrate", taught.data, "--crops", "40") == 0
    ended = capsys.readouterr()
    assert "mood stays in fp32: no dataset given labels it" in ended.err
    for engine in ("openvino", "onnxruntime"):
        assert f"all but mood, {engine}, look: 100.00% in fp32, 100.00% in int8" in ended.err
    file = tmp_path / "out" / int8_name(taught.bundle, CPU)
    assert str(file) in ended.out and file.read_bytes() == read_int8(taught.bundle, CPU)
    notes = read_notes(file.read_bytes())
    assert notes["accuracy"] == "look 1.0000 -> 1.0000" and notes["calibrated_on"] == "folder:task=look"
    exact = make_engine(taught.bundle, "onnxruntime", "cpu", "fp32").run(taught.inputs)
    for engine in ("openvino", "onnxruntime"):
        run = make_engine(taught.bundle, engine, "cpu", "int8")
        assert run.precision == "int8"
        for task, values in run.run(taught.inputs).items():
            off = np.abs(values - exact[task])
            assert 0 < off.max() < 0.5 * np.abs(exact[task]).max(), task


def test_what_loses_too_much_is_not_kept(bundle, tmp_path, capsys):
    taught = teach(change(bundle, encoder=spoil), tmp_path)
    assert export(taught.bundle, tmp_path / "out", "--calibrate", taught.data, "--crops", "40") == 1
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert "int8 is not kept: look loses more than 0.5%" in complaint
    assert "tried all but mood: look -" in complaint and "; all but look, mood: look -" in complaint
    assert not int8_dir().exists() and not (tmp_path / "out").exists()


def test_what_was_calibrated_once_is_exported_again_and_as_openvino(kept, tmp_path):
    import openvino

    assert export(kept, tmp_path / "a") == 0
    assert export(kept, tmp_path / "b", "--engine", "openvino") == 0
    (file,) = (tmp_path / "a").iterdir()
    assert file.read_bytes() == read_int8(kept, CPU)
    model = openvino.Core().read_model(tmp_path / "b" / "model.xml")
    assert {name for output in model.outputs for name in output.names} >= {*COLUMNS}


def test_without_an_int8_model_it_says_how_to_make_one(bundle, tmp_path, capsys):
    with pytest.raises(EngineError, match="needs .*int8-cpu-.*not there; make it: face-mtl export --model .*int8"):
        make_engine(bundle, "openvino", precision="int8")
    assert export(bundle, tmp_path / "out") == 1
    assert "--calibrate NAME=ROOT" in capsys.readouterr().err


@pytest.mark.parametrize(
    "harm", [lambda data: data[:-40], lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"text"]
)
def test_a_damaged_file_is_refused(kept, harm):
    file = int8_dir() / int8_name(kept, CPU)
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(EngineError, match="is cut, corrupt or no INT8 model of this package; make it"):
        make_engine(kept, "openvino", precision="int8")


def test_a_renamed_file_is_not_taken_for_another_model_s(kept, tmp_path):
    other = write_random_bundle(tmp_path / "other", TINY.name, COLUMNS, seed=1)
    (int8_dir() / int8_name(kept, CPU)).rename(int8_dir() / int8_name(other, CPU))
    with pytest.raises(EngineError, match="is for another model, version or device"):
        make_engine(other, "onnxruntime", "cpu", "int8")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--calibrate", "foo=/data"], "dataset 'foo' is unknown"),
        (["--calibrate", "folder={data}", "--crops", "0"], "--crops 0"),
        (["--calibrate", "folder:task=pose={data}"], "no dataset that labels a task of the model"),
        (["--engine", "tensorrt"], "--engine tensorrt needs --target"),
        (["--engine", "openvino", "--precision", "bf16"], "bf16 is chosen where it runs"),
        (["--precision", "fp32", "--calibrate", "folder={data}"], "--calibrate belongs to --precision int8"),
    ],
)
def test_what_does_not_go_together_is_said(bundle, tmp_path, capsys, options, complaint):
    data = draw_pictures(tmp_path / "data")
    assert export(bundle, tmp_path / "out", *(option.format(data=data) for option in options)) != 0
    assert complaint in capsys.readouterr().err


def test_export_calibrates_and_compiles_it_for_gpus(bundle, tmp_path, capsys):
    """Both files are what a machine with such a GPU looks for."""
    pytest.importorskip("tensorrt_rtx", reason="the tensorrt extra installs it")
    taught, out = teach(bundle, tmp_path), tmp_path / "out"
    options = ["--engine", "tensorrt", "--target", "sm89", "--calibrate", taught.data, "--crops", "40"]
    assert export(taught.bundle, out, *options) == 0
    printed = capsys.readouterr().out
    model = out / int8_name(taught.bundle, GPU)
    assert model.read_bytes() == read_int8(taught.bundle, GPU) and str(model) in printed
    key = plan_key(taught.bundle, tensorrt_library.load_library("tensorrt_rtx"), "int8", "sm89")
    plan = read_plan(out / file_name(key), key)
    assert plan is not None and plan[:4] == b"vtrt" and str(out / file_name(key)) in printed


def test_what_cannot_be_compiled_is_said_before_it_is_calibrated(bundle, tmp_path, capsys):
    pytest.importorskip("tensorrt_rtx", reason="the tensorrt extra installs it")
    options = ["--engine", "tensorrt", "--target", "sm42", "--calibrate", "folder=/nowhere"]
    assert export(bundle, tmp_path, *options) == 1
    assert "target 'sm42' is unknown to tensorrt_rtx" in capsys.readouterr().err


def test_tensorrt_reads_it_as_int8_and_what_was_calibrated_anew_is_another_engine(bundle):
    library = pytest.importorskip("tensorrt_rtx", reason="the tensorrt extra installs it")
    from face_mtl_ros.runtime.quantization import Quantizer

    log = tensorrt_library.notes(library)
    network = library.Builder(log).create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    model = Quantizer(bundle, crops(8)).quantize(GPU)
    assert library.OnnxParser(network, log).parse(model.SerializeToString()), log.reason()
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    quantised = [layer for layer in layers if layer.type == library.LayerType.QUANTIZE]
    assert {layer.get_output(0).dtype for layer in quantised} == {library.DataType.INT8}
    write_int8(int8_dir() / int8_name(bundle, GPU), bundle, GPU, model, {})
    key = plan_key(bundle, library, "int8", "sm89")
    write_int8(int8_dir() / int8_name(bundle, GPU), bundle, GPU, model, {"accuracy": "another"})
    assert file_name(plan_key(bundle, library, "int8", "sm89")) != file_name(key)
