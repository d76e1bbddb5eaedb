"""A bundle in float16 shards: the same model but for rounding, small files, and altered ones refused by name."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from face_mtl_ros.bundle.bundle import load_bundle, with_column, write_manifest
from face_mtl_ros.bundle.convert import convert_bundle
from face_mtl_ros.bundle.files import BundleError, read_tensors, write_shards, write_tensors
from face_mtl_ros.cli import main
from face_mtl_ros.runtime.engines import make_engine
from face_mtl_ros.runtime.predictor import Predictor
from face_mtl_ros.runtime.random_bundle import write_random_bundle

COLUMNS = {"emotion": (["happy", "sad", "neutral"], []), "gender": (["male", "female"], ["emotion"])}
LIMIT = 400_000
DTYPES = [np.dtype("float32"), np.dtype("float64"), np.dtype("int64"), np.dtype("bool")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_random_bundle(tmp_path_factory.mktemp("whole"), "compact", COLUMNS)


@pytest.fixture
def half(whole, tmp_path):
    return convert_bundle(whole.root, tmp_path / "half", limit=LIMIT)


def test_the_half_has_half_the_bytes_in_small_files_and_the_same_columns(whole, half):
    files = list(half.root.rglob("*.safetensors"))
    assert all(file.stat().st_size <= LIMIT for file in files)
    assert sorted(str(file.relative_to(half.root)) for file in files) == sorted(
        path for record in half.manifest.weights for path in record.paths
    )
    before, after = (sum(record.bytes for record in bundle.manifest.weights) for bundle in (whole, half))
    assert 0.5 * before < after < 0.55 * before
    assert after == sum(file.stat().st_size for file in files)
    assert len(half.manifest.encoder.file.paths) == 1 and len(half.manifest.column("emotion").file.paths) > 1
    assert [record.dtype for record in half.manifest.weights] == ["float16"] * 3
    for older, newer in zip(whole.manifest.columns, half.manifest.columns, strict=True):
        assert newer.model_copy(update={"file": older.file}) == older


def test_what_is_read_is_float32_and_off_by_no_more_than_rounding(whole, half):
    for before, after in ((whole.encoder, half.encoder), *((whole.columns[t], half.columns[t]) for t in COLUMNS)):
        assert before.keys() == after.keys()
        for name, tensor in before.items():
            assert after[name].dtype == tensor.dtype
            rounding = 2.0**-11 if tensor.ndim > 1 else 0
            np.testing.assert_allclose(after[name], tensor, rtol=rounding, atol=rounding and 2.0**-25, err_msg=name)
    assert not np.array_equal(whole.encoder["layers.1.conv.weight"], half.encoder["layers.1.conv.weight"])


def test_probabilities_differ_by_less_than_a_thousandth(whole, half):
    crops = np.random.default_rng(0).integers(0, 256, (4, 128, 128), np.uint8)
    before, after = (Predictor(b, make_engine(b, precision="fp32")).predict(crops) for b in (whole, half))
    for task in COLUMNS:
        assert np.abs(before[task] - after[task]).max() < 1e-3
        assert before[task].std() > 0.01  # else the columns said nothing that could differ


def test_the_version_follows_the_content(whole, half, tmp_path):
    again = convert_bundle(whole.root, tmp_path / "again", limit=LIMIT)
    other = convert_bundle(whole.root, tmp_path / "other", limit=LIMIT // 2)
    wide = convert_bundle(whole.root, tmp_path / "wide", "float32", LIMIT)
    assert again.version == half.version
    assert len({bundle.version for bundle in (whole, half, other, wide)}) == 4
    assert len({bundle.manifest.column("gender").file.sha256 for bundle in (whole, half, other, wide)}) == 4
    np.testing.assert_array_equal(wide.columns["gender"]["hidden.weight"], whole.columns["gender"]["hidden.weight"])


def test_whole_float32_files_again_are_of_the_first_format(half, tmp_path):
    back = convert_bundle(half.root, tmp_path / "back", "float32", 10**9)
    assert json.loads((half.root / "manifest.json").read_text())["format_version"] == 2
    content = json.loads((back.root / "manifest.json").read_text())
    assert content["format_version"] == 1
    assert set(content["columns"][0]["file"]) == {"path", "sha256", "bytes"}
    for task in COLUMNS:
        for name, tensor in half.columns[task].items():
            np.testing.assert_array_equal(back.columns[task][name], tensor)


def test_a_column_can_be_added_to_a_bundle_of_shards(half):
    gender = half.manifest.column("gender")
    record = write_tensors(half.root, "columns/sex.safetensors", half.columns["gender"])
    column = gender.model_copy(update={"task": "sex", "file": record})
    write_manifest(half.root, with_column(half.manifest, column))
    grown = load_bundle(half.root)
    assert list(grown.columns) == ["emotion", "gender", "sex"]
    assert grown.manifest.column("emotion").file == half.manifest.column("emotion").file


TENSORS = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12).filter(
        lambda name: name != "__metadata__"
    ),
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: arrays.arrays(
            dtype,
            arrays.array_shapes(min_dims=0, max_dims=3, max_side=6),
            elements={"allow_nan": False, "min_value": -60000, "max_value": 60000} if dtype.kind == "f" else None,
        )
    ),
    max_size=8,
)


@settings(max_examples=50)
@given(TENSORS, st.integers(300, 5000), st.sampled_from(["float16", "float32"]))
def test_any_tensors_come_back_from_files_within_the_limit(tmp_path_factory, tensors, limit, dtype):
    root = tmp_path_factory.mktemp("shards")
    try:
        record = write_shards(root, "part/x.safetensors", tensors, dtype, limit)
    except BundleError as error:
        assert "raise it" in str(error) and max(tensor.nbytes for tensor in tensors.values()) > limit - 300
        assert not list(root.iterdir())
        return
    sizes = {str(file.relative_to(root)): file.stat().st_size for file in root.rglob("*.safetensors")}
    assert sizes == {file.path: file.bytes for file in record.files}
    assert max(sizes.values()) <= limit and sum(sizes.values()) == record.bytes
    found = read_tensors(root, record)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        narrowed = dtype == "float16" and tensor.dtype == np.float32 and tensor.ndim > 1
        expected = tensor.astype(np.float16).astype(np.float32) if narrowed else tensor
        np.testing.assert_array_equal(found[name], expected)


def test_a_tensor_that_does_not_fit_is_named_and_nothing_is_left(whole, tmp_path):
    with pytest.raises(BundleError, match=r"tensor '.*weight' needs \d+ bytes alone, the limit is 20000: raise it"):
        convert_bundle(whole.root, tmp_path / "half", limit=20_000)
    assert list(tmp_path.iterdir()) == []


def test_values_beyond_float16_are_named(tmp_path):
    with pytest.raises(BundleError, match="tensor 'w' has values up to 7e.04, float16 holds up to 65504"):
        write_shards(tmp_path, "x.safetensors", {"w": np.full((2, 2), -7e4, np.float32)}, "float16", 10**6)


@pytest.mark.parametrize("there", ["bundle", "file"])
def test_an_output_that_is_in_use_is_refused(whole, tmp_path, there):
    output = tmp_path / "out"
    if there == "bundle":
        convert_bundle(whole.root, output)
    else:
        output.write_text("mine")
    with pytest.raises(BundleError, match=f"{output} is there already"):
        convert_bundle(whole.root, output)
    assert load_bundle(output) if there == "bundle" else output.read_text() == "mine"


def test_a_bundle_that_is_not_whole_is_not_converted(half, tmp_path):
    (half.root / "encoder.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match="encoder.safetensors has 0 bytes"):
        convert_bundle(half.root, tmp_path / "out")


def _flip(shards):
    data = bytearray(shards[1].read_bytes())
    data[-1] ^= 1
    shards[1].write_bytes(data)


def _cut(shards):
    shards[1].write_bytes(shards[1].read_bytes()[:-1])


def _swap(shards):
    one, other = shards[0].read_bytes(), shards[1].read_bytes()
    shards[0].write_bytes(other)
    shards[1].write_bytes(one)


def _surplus(shards):
    shards[0].with_name("emotion-00009-of-00009.safetensors").write_bytes(shards[0].read_bytes())


@pytest.mark.parametrize(
    ("alter", "complaint"),
    [
        (_flip, "emotion-00002-of-0.*safetensors is corrupt: its sha256"),
        (_cut, "emotion-00002-of-0.* bytes where the manifest says"),
        (lambda shards: shards[1].unlink(), "emotion-00002-of-0.* is missing"),
        (_swap, "emotion-00001-of-0.*(corrupt|bytes where)"),
        (lambda shards: shards[1].rename(shards[1].with_name("other.safetensors")), "emotion-00002-of-0.* is missing"),
        (_surplus, "emotion-00009-of-00009.safetensors is a shard that the manifest does not list"),
    ],
)
def test_an_altered_shard_is_refused_by_name(half, alter, complaint):
    alter([half.root / path for path in half.manifest.column("emotion").file.paths])
    with pytest.raises(BundleError, match=complaint):
        load_bundle(half.root)


def _drop(record):
    record["shards"].pop()


def _exchange(record):
    record["shards"].reverse()


def _escape(record):
    record["shards"][0]["path"] = "../x.safetensors"


@pytest.mark.parametrize(
    ("forge", "complaint"),
    [
        (_drop, "columns.0.file.*another sha256 or size than its"),
        (_exchange, "columns.0.file.*another sha256 or size than its"),
        (_escape, "columns.0.file.shards.0.path.*must be a .safetensors file inside the bundle"),
        (lambda record: record.pop("dtype"), "'.*weight' is float16; save it as float32"),
        (lambda record: record.update(dtype="int8"), "columns.0.file.dtype"),
    ],
)
def test_a_manifest_that_does_not_fit_its_shards_is_refused(half, forge, complaint):
    manifest = json.loads((half.root / "manifest.json").read_text())
    forge(manifest["columns"][0]["file"])
    (half.root / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=complaint):
        load_bundle(half.root)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    tensors = {name: np.zeros((40, 4), np.float32) for name in "abc"}
    record = write_shards(tmp_path, "x.safetensors", tensors, "float32", 900)
    again = write_shards(tmp_path, "x.safetensors", tensors | {"c": tensors["a"]}, "float32", 900)
    assert len(record.files) == len(again.files) == 3
    twice = record.model_copy(update={"shards": [*record.files[:2], record.files[0]]})
    (tmp_path / record.paths[2]).unlink()
    with pytest.raises(BundleError, match="x-00001-of-00003.safetensors holds the tensor 'a', as a shard before"):
        read_tensors(tmp_path, twice)


def run(capsys, *words):
    status = main(["models", "convert", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out, err


def test_the_command_converts_and_verify_lists_the_shards(whole, tmp_path, capsys):
    status, out, _ = run(capsys, "--model", whole.root, "--output", tmp_path / "half", "--limit-mb", "0.4")
    half = load_bundle(tmp_path / "half")
    assert status == 0
    assert out.startswith(f"{half.version} written to {tmp_path / 'half'}: float16, ")
    assert main(["models", "verify", str(tmp_path / "half")]) == 0
    assert "columns/gender-00002-of-0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected", "complaint"),
    [
        (["--limit-mb", "nan"], 2, "--limit-mb nan must be a number above 0"),
        (["--limit-mb", "-1"], 2, "--limit-mb -1 must be"),
        (["--limit-mb", "0.001"], 1, "the limit is 1000: raise it"),
        (["--model", "./nowhere"], 1, "nowhere is no model bundle"),
    ],
)
def test_a_mistake_gets_one_line(whole, tmp_path, capsys, words, expected, complaint):
    status, _, err = run(capsys, "--model", whole.root, "--output", tmp_path / "out", *words)
    assert status == expected and complaint in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()
