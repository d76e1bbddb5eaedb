"""Which detector is chosen, how YuNet's model is installed, and where it lies."""

import hashlib
import io
import logging
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from face_mtl_ros import paths
from face_mtl_ros.vision import detectors
from face_mtl_ros.vision.detectors import DetectorError, install_yunet, make_detector, yunet_path
from face_mtl_ros.vision.yunet import YUNET_FILE, YUNET_SHA256, YUNET_SIZE

pytestmark = pytest.mark.usefixtures("home")


class TestChoice:
    def test_auto_takes_haar_where_yunet_is_missing(self, home, caplog):
        caplog.set_level(logging.INFO)
        assert make_detector("auto").name == "haar"
        assert str(yunet_path()) in caplog.text
        assert not home.exists()

    def test_auto_takes_yunet_where_it_is_installed(self, installed, caplog):
        caplog.set_level(logging.INFO)
        assert make_detector("auto").name == "yunet"
        assert str(installed) in caplog.text

    def test_yunet_missing(self):
        with pytest.raises(DetectorError, match="detector install") as error:
            make_detector("yunet")
        assert str(yunet_path()) in str(error.value)

    @pytest.mark.parametrize("name", ["yunet", "auto"])
    def test_a_corrupt_model_is_refused(self, name):
        yunet_path().parent.mkdir(parents=True)
        yunet_path().write_bytes(b"not a model")
        with pytest.raises(DetectorError, match="corrupt") as error:
            make_detector(name)
        assert str(yunet_path()) in str(error.value)

    @pytest.mark.parametrize("name", ["", "Haar", "mtcnn"])
    def test_unknown(self, name):
        with pytest.raises(DetectorError, match="auto, haar, yunet") as error:
            make_detector(name)
        assert repr(name) in str(error.value)


class TestInstall:
    def test_from_a_file(self, home, yunet_file):
        steps = []
        path = install_yunet(yunet_file, progress=lambda done, total: steps.append((done, total)))
        assert path == home / "detectors" / YUNET_FILE
        assert hashlib.sha256(path.read_bytes()).hexdigest() == YUNET_SHA256
        assert steps[-1] == (YUNET_SIZE, YUNET_SIZE)
        assert list(path.parent.iterdir()) == [path]

    def test_from_the_network(self, monkeypatch, yunet_file):
        monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: yunet_file.open("rb"))
        assert install_yunet().read_bytes() == yunet_file.read_bytes()

    def test_the_wrong_file_leaves_the_installed_one(self, installed, tmp_path):
        wrong = tmp_path / "wrong.onnx"
        wrong.write_bytes(b"version https://git-lfs.github.com/spec/v1")
        with pytest.raises(DetectorError, match="sha256") as error:
            install_yunet(wrong)
        assert str(wrong) in str(error.value)
        assert list(installed.parent.iterdir()) == [installed]
        assert make_detector("yunet").name == "yunet"

    def test_a_file_without_end_is_not_read_to_its_end(self, tmp_path):
        large = tmp_path / "large.onnx"
        with large.open("wb") as stream:
            stream.truncate(1 << 34)
        with pytest.raises(DetectorError, match="sha256"):
            install_yunet(large)

    def test_no_such_file(self, tmp_path):
        with pytest.raises(DetectorError, match="absent.onnx.*No such file"):
            install_yunet(tmp_path / "absent.onnx")

    def test_a_folder(self, tmp_path):
        with pytest.raises(DetectorError, match="is a folder"):
            install_yunet(tmp_path)

    def test_no_network(self, monkeypatch):
        def unreachable(url, timeout):
            raise urllib.error.URLError("Name or service not known")

        monkeypatch.setattr(urllib.request, "urlopen", unreachable)
        with pytest.raises(DetectorError, match="Name or service not known.*--from FILE"):
            install_yunet()
        assert not yunet_path().exists()

    def test_the_network_breaks_off(self, monkeypatch):
        class Broken(io.BytesIO):
            def read(self, size=-1):
                raise TimeoutError("timed out")

        monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Broken())
        with pytest.raises(DetectorError, match="broke off after 0 of"):
            install_yunet()
        assert list(yunet_path().parent.iterdir()) == []

    def test_the_disk_is_full(self, monkeypatch, yunet_file):
        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(detectors.os, "fsync", full)
        with pytest.raises(DetectorError, match="No space left on device"):
            install_yunet(yunet_file)
        assert list(yunet_path().parent.iterdir()) == []

    def test_the_target_is_no_folder(self, home, tmp_path):
        home.write_text("a file where a folder should be")
        source = tmp_path / "model.onnx"
        source.write_bytes(b"")
        with pytest.raises(DetectorError, match="cannot be written"):
            install_yunet(source)


class TestPaths:
    def test_home(self, home, monkeypatch):
        assert paths.home() == home
        assert paths.models_dir() == home / "bundles"
        assert paths.detectors_dir() == home / "detectors"
        assert paths.cache_dir() == home / "cache"
        assert not home.exists()
        monkeypatch.setenv("FACE_MTL_HOME", "~/robot")
        assert paths.home() == Path.home() / "robot"
        monkeypatch.setenv("FACE_MTL_HOME", "")
        assert paths.home() == Path.home() / ".local" / "share" / "face_mtl_ros"
