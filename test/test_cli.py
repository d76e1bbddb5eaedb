"""The face-mtl command as a user meets it: output, exit status, and one clear line for a mistake."""

import json
import struct
import subprocess
import sys
import types
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from face_mtl_ros.cli import main
from face_mtl_ros.vision.portraits import PlacedFace, compose


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FACE_MTL_HOME", str(tmp_path / "home"))


@pytest.fixture
def portrait(tmp_path):
    file = tmp_path / "portrait.png"
    cv2.imwrite(str(file), compose((640, 480), [PlacedFace("astronaut", (320, 240), 160)]))
    return file


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def analyze(capsys, bundle, *arguments):
    return run(capsys, "analyze", "--model", bundle.root, "--detector", "haar", "--json", *arguments)


def test_analyze_prints_one_line_of_json_a_picture(capsys, random_bundle, portrait):
    status, out, _ = analyze(capsys, random_bundle, portrait, portrait)
    assert status == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 2
    assert (lines[0]["path"], lines[0]["width"], lines[0]["height"]) == (str(portrait), 640, 480)
    face = lines[0]["faces"][0]
    assert set(face["roi"]) == {"x_offset", "y_offset", "width", "height"}
    assert 0 < face["detection_confidence"] <= 1
    assert [a["task"] for a in face["attributes"]] == ["emotion", "gender"]
    assert sum(face["attributes"][0]["probabilities"]) == pytest.approx(1, abs=1e-3)
    assert "embedding" not in face


def test_analyze_takes_crops_without_detection(capsys, random_bundle, tmp_path):
    crop = tmp_path / "crop.png"
    cv2.imwrite(str(crop), np.random.default_rng(0).integers(0, 255, (48, 48), np.uint8))
    status, out, _ = analyze(capsys, random_bundle, "--crops", "--embedding", crop)
    face = json.loads(out)["faces"][0]
    assert status == 0
    assert face["roi"] == {"x_offset": 0, "y_offset": 0, "width": 48, "height": 48}
    assert np.linalg.norm(face["embedding"]) == pytest.approx(1, abs=1e-3)


def test_analyze_goes_on_behind_files_that_fail(capsys, random_bundle, portrait, tmp_path):
    text, empty, folder = tmp_path / "text.jpg", tmp_path / "empty.jpg", tmp_path / "folder"
    text.write_text("no picture")
    empty.write_bytes(b"")
    folder.mkdir()
    missing = tmp_path / "missing.jpg"
    status, out, err = analyze(capsys, random_bundle, missing, text, empty, folder, portrait)
    assert status == 1
    assert [json.loads(line)["path"] for line in out.splitlines()] == [str(portrait)]
    for file, reason in ((missing, "No such file"), (text, "not a picture"), (empty, "empty"), (folder, "no pictures")):
        assert any(str(file) in line and reason in line for line in err.splitlines()), file


def test_analyze_goes_on_behind_a_claim_of_too_many_pixels_and_a_closed_folder(
    capsys, monkeypatch, random_bundle, portrait, tmp_path
):
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    huge, closed = tmp_path / "huge.png", tmp_path / "closed"
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    huge.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    closed.mkdir()
    real = Path.iterdir

    def refuse(self):  # root may read every folder, so chmod would not do
        if self == closed:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    status, out, err = analyze(capsys, random_bundle, huge, closed, portrait)
    assert status == 1
    assert [json.loads(line)["path"] for line in out.splitlines()] == [str(portrait)]
    assert f"{huge}: OpenCV refuses it" in err and f"{closed}: Permission denied" in err


def test_analyze_takes_odd_pictures_and_folders(capsys, random_bundle, portrait, tmp_path):
    pillow = pytest.importorskip("PIL.Image", reason="writes the CMYK picture")
    folder = tmp_path / "odd"
    folder.mkdir()
    pillow.fromarray(cv2.imread(str(portrait))[..., ::-1].copy()).convert("CMYK").save(folder / "cmyk.jpg")
    pillow.new("L", (1, 1)).save(folder / "one.pgm")
    status, out, _ = analyze(capsys, random_bundle, folder)
    lines = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [len(line["faces"]) for line in lines] == [1, 0]


def test_analyze_draws(capsys, random_bundle, portrait, tmp_path):
    status, _, _ = analyze(capsys, random_bundle, portrait, "--draw", tmp_path / "drawn")
    drawn = cv2.imread(str(tmp_path / "drawn" / "portrait.annotated.jpg"))
    assert status == 0
    assert (np.abs(drawn.astype(int) - cv2.imread(str(portrait))) > 60).sum() > 500


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["analyze", "--model", "/nowhere", "x.jpg"], 1, "/nowhere is no model bundle"),
        (["analyze", "--model", "nobody", "x.jpg"], 1, "model 'nobody' not found"),
        (["analyze", "--detector", "yunet", "x.jpg"], 1, "face-mtl detector install"),
        (["models", "verify", "/nowhere"], 1, "/nowhere is no model bundle"),
        (["detector", "install", "--from", "/nowhere"], 1, "/nowhere"),
        (["export", "--model", "/nowhere", "--output", "x"], 1, "/nowhere"),
    ],
)
def test_a_user_s_mistake_is_one_clear_line(capsys, random_bundle, arguments, status, says):
    if "yunet" in arguments:
        arguments = [*arguments, "--model", str(random_bundle.root)]
    found, out, err = run(capsys, *arguments)
    assert found == status and says in err and out == ""


@pytest.mark.parametrize("arguments", [[], ["dance"], ["analyze"], ["analyze", "--detector", "eyes", "x.jpg"]])
def test_wrong_usage_ends_with_2(arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--task", "mood", "--data", "foo"], "--data foo: expected NAME=ROOT"),
        (["train", "--task", "mood", "--data", "foo=/data"], "dataset 'foo' is unknown; choose one of celeba"),
        (["evaluate", "--task", "gender", "--dataset", "foo", "--root", "/data"], "dataset 'foo' is unknown"),
    ],
)
def test_a_dataset_that_cannot_be_meant_ends_with_2(capsys, random_bundle, arguments, says):
    pytest.importorskip("torchmetrics", reason="these commands need the train extra")
    status, _, err = run(capsys, *arguments, "--model", random_bundle.root)
    assert status == 2 and says in err


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["pretrain", "--output", "OUT", "--data", "folder=/data"], "torch"),
        (["train", "--model", "OUT", "--task", "mood", "--data", "folder=/data"], "torch"),
        (["evaluate", "--model", "OUT", "--task", "mood", "--dataset", "folder", "--root", "/data"], "torchmetrics"),
        (["export", "--engine", "onnx", "--output", "OUT"], "onnx"),
    ],
)
def test_a_missing_package_is_one_line_with_its_remedy(tmp_path, arguments, missing):
    """In a process of its own, where nothing has imported the package yet."""
    code = (
        "import importlib.abc, sys\n"
        "class Missing(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {missing!r}: raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from face_mtl_ros.cli import main\n"
        f"sys.exit(main({arguments!r}))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    last = ended.stderr.splitlines()[-1]
    remedy = "onnx" if missing == "onnx" else "'face_mtl_ros[train]', or in a checkout bash tools/setup.sh test"
    assert last.endswith(f"needs {missing}, which is not installed: pip install {remedy}")


def test_models_verify_and_list(capsys, random_bundle):
    status, out, _ = run(capsys, "models", "verify", random_bundle.root)
    assert status == 0 and f"{random_bundle.version} is whole" in out
    status, out, _ = run(capsys, "models", "list", "--json")
    columns = {entry["model"]: entry["columns"] for entry in map(json.loads, out.splitlines())}
    assert columns == {"began": [], "began-paper": [], "default": ["emotion", "embedding", "age", "gender"]}
    assert (
        "began: began-" in run(capsys, "models", "list")[1] and "an encoder alone" in run(capsys, "models", "list")[1]
    )


def test_export_writes_a_graph_that_onnx_reads(capsys, random_bundle, tmp_path):
    import onnx

    status, _, _ = run(capsys, "export", "--model", random_bundle.root, "--output", tmp_path / "out")
    assert status == 0
    outputs = [o.name for o in onnx.load(tmp_path / "out" / "model.onnx").graph.output]
    assert outputs == ["emotion", "gender", "encoder/embedding"]


def test_doctor_says_what_is_here(capsys, monkeypatch, random_bundle):
    monkeypatch.setattr("face_mtl_ros.cli.doctor.locate_bundle", lambda: random_bundle.root)
    status, out, _ = run(capsys, "doctor")
    assert status == 0
    assert "engine openvino: CPU" in out and "detector haar: ready" in out and "detector yunet: not here" in out


def test_doctor_s_status_is_that_of_what_auto_takes(capsys, monkeypatch, random_bundle, tmp_path):
    from face_mtl_ros.runtime.engine import EngineError
    from face_mtl_ros.vision.detectors import yunet_path

    monkeypatch.setattr("face_mtl_ros.cli.doctor.locate_bundle", lambda: random_bundle.root)
    lacking = {"openvino"}

    def make_engine(bundle, name):
        if name in lacking:
            raise EngineError(f"{name} is not installed")
        return types.SimpleNamespace(name=name, device="cpu", precision="fp32")

    monkeypatch.setattr("face_mtl_ros.cli.doctor.make_engine", make_engine)
    assert run(capsys, "doctor")[0] == 0  # auto takes torch
    lacking.add("auto")
    assert run(capsys, "doctor")[0] == 1
    lacking.clear()
    yunet_path().parent.mkdir(parents=True)
    yunet_path().write_bytes(b"corrupt")
    status, out, _ = run(capsys, "doctor")
    assert status == 1 and "detector auto: not here" in out and "detector haar: ready" in out


def test_bench_prints_one_object(capsys):
    few = [
        "--preset",
        "compact",
        "--engine",
        "openvino",
        "--precision",
        "fp32",
        "--batch",
        "1",
        "--seconds",
        "0.01",
        "--no-pictures",
        "--no-pipeline",
        "--no-peers",
    ]
    status, out, _ = run(capsys, "bench", "--json", *few)
    result = json.loads(out)
    assert status == 0
    assert set(result["machine"]) >= {"cpu", "threads", "gemm_gflops"}
    entry = result["inference"][0]
    assert set(entry) >= {"preset", "engine", "precision", "batch", "median_ms", "p99_ms", "gflops"}
    assert entry["median_ms"] > 0


def test_help_runs_without_torch():
    code = "import sys; from face_mtl_ros.cli import build_parser; build_parser().format_help(); "
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)


def test_evaluate_scores_a_column(capsys, random_bundle, tmp_path):
    pytest.importorskip("torchmetrics", reason="evaluation needs the train extra")
    for label in ("female", "male"):
        for i in range(4):
            file = tmp_path / "data" / label / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), np.random.default_rng(i).integers(0, 255, (64, 64), np.uint8))
    arguments = ["evaluate", "--model", random_bundle.root, "--task", "gender", "--dataset", "folder"]
    arguments += ["--root", tmp_path / "data", "--split", "all", "--json"]
    status, out, err = run(capsys, *arguments)
    result = json.loads(out)
    assert status == 0, err
    assert result["n"] == 8 and 0 <= result["accuracy"] <= 1 and {"macro_f1", "ece", "split"} <= set(result)
