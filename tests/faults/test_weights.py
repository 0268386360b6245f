"""Weights and checkpoints of every odd kind: one line that names the file, and nothing of it is run."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainable.architectures import build_model, check_weights
from trainable.checkpoint import CheckpointStore
from trainable.config import TrialConfig
from trainable.weights import load_weights

FIRST = "features.0.weight"


@pytest.fixture
def state() -> dict[str, Any]:
    return dict(build_model(TrialConfig(architecture="small_cnn"), 2).state_dict())


def refusal(path: Path) -> str:
    with pytest.raises(ValueError) as caught:
        check_weights("small_cnn", path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.system, ("touch exploded",)


def spoil(state: dict[str, Any], how: str) -> dict[str, Any]:
    kernel = state[FIRST]
    odd: dict[str, Callable[[], Any]] = {
        "sparse": lambda: kernel.to_sparse(),
        "quantised": lambda: torch.quantize_per_tensor(kernel, 0.1, 0, torch.qint8),
        "complex": lambda: kernel.to(torch.complex64),
        "NaN": lambda: torch.full_like(kernel, float("nan")),
        "infinities": lambda: torch.full_like(kernel, float("inf")),
        "another shape": lambda: torch.zeros(1).expand(10**6, 10**6),
        "whole numbers": lambda: (kernel * 100).to(torch.int8),
        "of 1e300": lambda: torch.full_like(kernel, 1e300, dtype=torch.float64),
        "bool": lambda: True,
    }
    return state | {FIRST: odd[how]()}


@pytest.mark.parametrize(
    "how", ["sparse", "quantised", "complex", "NaN", "infinities", "another shape", "bool", "whole numbers"]
)
@pytest.mark.filterwarnings("ignore:.*[qQ]uantiz")
def test_odd_tensors_are_named(how: str, state: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(spoil(state, how), path)
    message = refusal(path)
    assert how in message and FIRST in message


def test_a_number_that_the_model_cannot_hold_is_an_infinity(state: dict[str, Any], tmp_path: Path) -> None:
    torch.save(spoil(state, "of 1e300"), tmp_path / "weights.pth")
    assert "NaN or infinities" in refusal(tmp_path / "weights.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn], ids=str)
def test_weights_of_another_precision_are_cast(dtype: torch.dtype, state: dict[str, Any], tmp_path: Path) -> None:
    cast = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    torch.save(cast, tmp_path / "weights.pth")
    model = build_model(TrialConfig(architecture="small_cnn"), 2)
    assert load_weights(model, tmp_path / "weights.pth", "small_cnn") == len(state)
    torch.testing.assert_close(model.state_dict()[FIRST], cast[FIRST].float())


def test_a_small_file_that_unpacks_to_much_is_not_unpacked(state: dict[str, Any], tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.pth", tmp_path / "weights.pth"
    torch.save({FIRST: torch.zeros(2**20)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
    assert packed.stat().st_size < 2**20
    assert "is damaged or holds more than plain tensors" in refusal(packed)


@pytest.mark.parametrize("text", ["raise KeyError('x')", "raise SystemExit(3)", "return 1 / 0", "import no_library"])
def test_a_model_of_ones_own_that_fails_as_its_weights_are_tried_is_one_line(text: str, tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"my_model\.py:build builds no model: ") as caught:
        check_weights("my_model.py:build", tmp_path / "weights.pth", source=f"def build(num_classes):\n    {text}\n")
    assert "\n" not in str(caught.value)


def test_an_rgb_kernel_of_endless_stride_is_not_summed(state: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    for num_filters in (len(state[FIRST]), 10**5):
        torch.save(state | {FIRST: torch.zeros(1).expand(num_filters, 3, 10**5, 10**5)}, path)
        assert "another shape" in refusal(path)


def test_names_of_tensors_cannot_break_the_line(state: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(state | {"a\nb\x1b[2J" + "c" * 10**5: torch.zeros(1)}, path)
    assert len(refusal(path)) < 2000


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("slices/1.png", b"no weights")


def write_long(path: Path, header: bytes) -> None:
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(2**36)


OTHERS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("<html>404: not found</html>"),
    "a zip of something else": write_zip,
    "a pickled module": lambda path: torch.save(torch.nn.Linear(1, 1), path),
    "a pickle that would run code": lambda path: path.write_bytes(pickle.dumps(Bomb())),
    "a checkpoint that would run code": lambda path: torch.save({"state_dict": {}, "extra": Bomb()}, path),
    "an optimizer": lambda path: torch.save({"state": {}, "param_groups": [{"lr": 1.0}]}, path),
    "a list": lambda path: torch.save([torch.zeros(1)], path),
    "a number": lambda path: torch.save(3, path),
    "safetensors that go on for gigabytes": lambda path: write_long(
        path, b'{"x":{"dtype":"F32","data_offsets":[0,4]}}'
    ),
    "safetensors without a header": lambda path: write_long(path, b"{" + b"[" * 10**5),
    "a traced module": lambda path: torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_files_of_other_programs_are_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    OTHERS[kind](path)
    refusal(path)
    assert not (tmp_path / "exploded").exists()


def test_three_hundred_damaged_weight_files_are_one_line_each(state: dict[str, Any], tmp_path: Path) -> None:
    rng, path, num_refused = random.Random(5), tmp_path / "weights.pth", 0
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    for _ in range(300):
        at = rng.randrange(len(content))
        path.write_bytes(rng.choice([content[:at], content[:at] + rng.randbytes(40) + content[at + 40 :]]))
        try:
            load_weights(build_model(TrialConfig(architecture="small_cnn"), 2), path, "small_cnn")
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            num_refused += 1
    assert num_refused > 150, "what is cut off is always refused"


def test_a_checkpoint_of_a_training_program_gives_its_state_dict(state: dict[str, Any], tmp_path: Path) -> None:
    for number, wrapped in enumerate(({"model": state, "epoch": 3}, {"model_state_dict": state})):
        path = tmp_path / f"{number}.ckpt"
        torch.save(wrapped, path)
        check_weights("small_cnn", path)


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod.", "net.backbone."])
def test_what_a_wrapper_put_before_every_name_is_taken_away(prefix: str, state: dict[str, Any], tmp_path: Path) -> None:
    torch.save({"state_dict": {prefix + name: tensor for name, tensor in state.items()}}, tmp_path / "weights.pth")
    model = build_model(TrialConfig(architecture="small_cnn"), 2)
    assert load_weights(model, tmp_path / "weights.pth", "small_cnn") == len(state)
    torch.save({prefix + "other.weight": torch.zeros(1)}, tmp_path / "weights.pth")
    assert "1 unexpected" in refusal(tmp_path / "weights.pth")


# -- our own checkpoints


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    found = CheckpointStore(tmp_path / "0007")
    found.save("best", {"model": {"w": torch.ones(2)}}, {"epoch": 4, "value": 0.75})
    return found


def test_each_of_two_hundred_damaged_records_of_a_checkpoint_costs_nothing(store: CheckpointStore) -> None:
    record = Path(store.uri) / "best.json"
    content, rng = record.read_bytes(), random.Random(3)
    for _ in range(200):
        at = rng.randrange(len(content))
        bad = rng.choice([content[:at], content[:at] + b"7" + content[at + 1 :], b"[]", b"\xff\xfe", b"{}"])
        record.write_bytes(bad)
        found = store.load("best")
        assert found is not None and found[1] == {"epoch": 4, "value": 0.75} == store.facts("best")
    record.unlink()
    assert store.load("best") is not None


def test_a_record_that_points_elsewhere_or_is_another_programs_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "secret.pt").write_bytes(b"secret")
    fields = {"sha256": "0", "facts": {}, "saved_at": 0}
    for content in ({"file": "../secret.pt", **fields}, {"loss": 0.3}, 3, [1, 2], {"file": 7, **fields}):
        (tmp_path / "best.json").write_text(json.dumps(content))
        assert CheckpointStore(tmp_path).load("best") is None


def test_a_record_that_is_a_pipe_or_a_device_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "best.json")
    (tmp_path / "newest.json").symlink_to("/dev/zero")
    store = CheckpointStore(tmp_path)
    assert store.load("best") is None and store.load("newest") is None


def test_a_checkpoint_of_an_older_version_is_read(store: CheckpointStore) -> None:
    record = Path(store.uri) / "best.json"
    record.with_name("best.good.json").unlink()
    old = json.loads(record.read_text())
    del old["checksum"]
    record.write_text(json.dumps(old))
    assert store.facts("best") == {"epoch": 4, "value": 0.75}
    store.save("best", {"model": {}}, {"epoch": 5})
    assert store.facts("best") == {"epoch": 5}
    store.delete("best")
    assert not list(Path(store.uri).iterdir())
