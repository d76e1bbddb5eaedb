"""Two processes that train together: the same as one, and files from the first alone."""

import os
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which the train extra installs")
pytest.importorskip("kornia", reason="augmentation needs kornia, which the train extra installs")

from tiny_world import draw_pictures  # noqa: E402

from face_mtl_ros.bundle.bundle import load_bundle  # noqa: E402

# A network without batch statistics, which are each process's own.
SCRIPT = """
import sys
from pathlib import Path

import torch

from face_mtl_ros.training import distributed
from face_mtl_ros.training.loop import fit
from face_mtl_ros.training.recipe import Recipe


def train(epochs, checkpoint=None, batch=8):
    torch.manual_seed(0)
    data = torch.randn(48, 4)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))

    def loss_of(indices, _done):
        return (model(data[indices]) - data[indices].sum(1, keepdim=True)).square().mean()

    recipe = Recipe(epochs=epochs, batch=batch, learning_rate=0.05)
    history = fit(model, loss_of, 48, recipe, checkpoint, lambda _line: None)
    return {"losses": history.epoch_losses, **model.state_dict()}


if __name__ == "__main__":
    out = Path(sys.argv[1])
    distributed.start()
    file = out / f"machine-{distributed.rank()}" / "checkpoint.pt"  # a disk that they do not share
    found = {"whole": train(4), "begun": train(2, file)}
    found["resumed"] = train(4, file)
    try:
        train(1, batch=7)
    except ValueError as error:
        found["uneven"] = str(error)
    try:
        distributed.of_first(lambda: int("no number"))
    except ValueError as error:
        found["raised"] = str(error)
    torch.save(found, out / f"found-{distributed.rank()}.pt")
"""


def torchrun(*command, **environment):
    """Run a Python script or module in two processes; its output, both streams."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command]
    env = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run(launch, env=env, text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_two_processes_reach_the_loss_and_weights_of_one(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun(str(tmp_path / "script.py"), str(tmp_path))
    found = [torch.load(tmp_path / f"found-{rank}.pt") for rank in (0, 1)]
    script = {"__name__": "script"}
    exec(SCRIPT, script)
    alone = script["train"](4)
    for of_rank in found:
        np.testing.assert_allclose(of_rank["whole"]["losses"], alone["losses"], atol=1e-5)
        for name in ("0.weight", "0.bias", "2.weight", "2.bias"):
            torch.testing.assert_close(of_rank["whole"][name], alone[name], atol=1e-5, rtol=0)
            assert torch.equal(of_rank["resumed"][name], found[0]["resumed"][name])
        assert "no number" in of_rank["raised"]
        assert of_rank["uneven"] == "batch: 7 samples cannot be shared evenly by 2 processes"
        assert len(of_rank["resumed"]["losses"]) == 4
    assert alone["losses"][-1] < alone["losses"][0] / 2
    # The first alone writes a checkpoint, and gives it to the others.
    assert (tmp_path / "machine-0" / "checkpoint.pt").exists() and not (tmp_path / "machine-1").exists()


@pytest.mark.slow
def test_the_commands_run_in_two_processes(tmp_path, home):
    """Caches that both need are made once, and each file of a bundle is written once."""
    pictures = draw_pictures(tmp_path / "pictures")
    words = ["--data", f"folder:task=shape={pictures}", "--batch", "8", "--epochs", "0.3"]
    model = str(tmp_path / "model")

    def face_mtl(*command):
        return torchrun("-m", "face_mtl_ros.cli", *command, *words, FACE_MTL_HOME=str(home))

    assert face_mtl("pretrain", "--output", model).count("encoder written to") == 1
    said = face_mtl("train", "--model", model, "--task", "shape", "--views", "1")
    assert said.count("column 'shape' added to") == 1
    bundle = load_bundle(tmp_path / "model")
    record = bundle.manifest.column("shape")
    assert record.metrics["folder/val/n"] > 0
    kept = list((home / "cache" / "features").glob("*/filled"))
    used = {record.provenance.samples["folder/train"], record.metrics["folder/val/n"]}
    assert len(kept) == 2 and {int(file.read_text()) for file in kept} == used
    assert not list((home / "cache" / "training").glob("*.pt"))
