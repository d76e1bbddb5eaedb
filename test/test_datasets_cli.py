"""face-mtl datasets, as a user meets it."""

import argparse
import json

import pytest
from test_datasets import write_picture

from face_mtl_ros.cli import UsageError
from face_mtl_ros.cli.datasets import add_parser
from face_mtl_ros.datasets.dataset import DatasetError


def run(*arguments):
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    args = parser.parse_args(["datasets", *map(str, arguments)])
    return args.run(args)


@pytest.fixture
def utkface(tmp_path):
    """Of the ten, the hash of the name has put some into each split."""
    for i in range(40):
        write_picture(tmp_path / "UTKFace" / f"{30 + i}_{i % 2}_{i % 5}_{i}.jpg", 16)
    return tmp_path / "UTKFace"


@pytest.fixture
def people(tmp_path):
    for i in range(21):
        for number in range(1, 21):
            write_picture(tmp_path / "lfw" / f"Person_{i}" / f"Person_{i}_{number:04d}.jpg", 8)
    return tmp_path / "lfw"


def test_json_counts_each_split_class_and_group(utkface, capsys):
    assert run("utkface", utkface, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dataset"] == "utkface" and set(found["splits"]) == {"train", "val", "test"}
    assert sum(entry["n"] for entry in found["splits"].values()) == 40
    for entry in found["splits"].values():
        assert list(entry["counts"]) == ["age", "gender", "by sex", "by race"]
        assert all(sum(counts.values()) == entry["n"] for counts in entry["counts"].values())
    train = found["splits"]["train"]["counts"]
    assert train["gender"] == {label: train["by sex"][label] for label in ("male", "female")}


def test_tables_have_a_column_a_split(utkface, capsys):
    assert run("utkface", utkface) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"age", "gender", "by sex", "by race"} <= {line.strip() for line in lines}
    assert any({"train", "val", "test"} <= set(line.replace("┃", " ").split()) for line in lines)
    row = next(line for line in lines if "60+" in line)
    assert sum(int(cell) for cell in row.replace("│", " ").split()[1:]) == 13  # 57 to 69 years
    assert lines[-1].startswith("pictures: ") and lines[-1].endswith("test")


def test_one_split_and_an_option(people, capsys):
    assert run("lfw-identity", people, "--split", "test", "--option", "people=3", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["splits"] == {
        "test": {"n": 12, "counts": {"identity": {"Person_0": 4, "Person_1": 4, "Person_10": 4}}}
    }


def test_many_classes_are_summed_up(people, capsys):
    assert run("lfw-identity", people, "--option", "people=all") == 0
    out = capsys.readouterr().out
    assert "Person_0" not in out and "14 to 14" in out and "pictures: 294 train, 42 val, 84 test" in out


def test_unlabelled_pictures_are_counted(people, capsys):
    assert run("lfw", people, "--split", "all", "--json") == 0
    counts = json.loads(capsys.readouterr().out)["splits"]["all"]["counts"]
    assert counts["gender"] == {"male": 0, "female": 0, "(unlabelled)": 420}


def test_a_split_that_is_not_there_is_reported_among_the_others(tmp_path, capsys):
    header = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
    (tmp_path / "fer2013new.csv").write_text(header + "Training,fer0.png,9" + ",0" * 9 + "\n")
    write_picture(tmp_path / "FER2013Train" / "fer0.png")
    assert run("ferplus", tmp_path, "--json") == 0
    splits = json.loads(capsys.readouterr().out)["splits"]
    assert splits["train"]["n"] == 1
    assert "no labelled picture of split 'val'" in splits["val"]["error"]
    assert run("ferplus", tmp_path) == 0
    assert "val: " in capsys.readouterr().out


def test_a_dataset_that_cannot_be_read_at_all_is_an_error(tmp_path, utkface):
    with pytest.raises(DatasetError, match="looks like utkface"):
        run("ferplus", utkface)
    with pytest.raises(DatasetError, match="nowhere not found"):
        run("utkface", tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="utkface has no option 'fold'"):
        run("utkface", utkface, "--option", "fold=1")


def test_a_malformed_option_is_wrong_usage(utkface):
    with pytest.raises(UsageError, match="--option fold: expected KEY=VALUE"):
        run("utkface", utkface, "--option", "fold")
    with pytest.raises(SystemExit):
        run("imagenet", utkface)
