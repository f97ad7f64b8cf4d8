from __future__ import annotations

import io
import json
import os
import stat
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save, save_file

from img2brain import untrusted
from img2brain.errors import DataError
from img2brain.untrusted import Limits

SMALL = Limits(n_files=10, n_bytes=1 << 20)
GOOD = {"from.json": b'{"format": 1}', "model/a.bin": bytes(range(256)) * 20, "model/b/c.txt": b"text " * 100}


def pack(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return path


def unpacked(path: Path, folder: Path, limits: Limits = SMALL) -> dict[str, bytes]:
    with untrusted.opened(path, limits) as archive:
        archive.unpack(folder)
    return {name: file.read_bytes() for name, file in untrusted.files(folder, limits).items()}


def entry(path: Path, name: str, content: bytes = b"x", /, **changes: int) -> Path:
    """Pack one file whose entry in the table of contents says something else."""
    info = zipfile.ZipInfo(name)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, content)
        for key, value in changes.items():
            setattr(archive.filelist[0], key, value)
        archive._didModify = True  # type: ignore[attr-defined]
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_good_archive_is_unpacked_as_it_was(tmp_path: Path, method: int) -> None:
    assert unpacked(pack(tmp_path / "a.zip", GOOD, method), tmp_path / "out") == GOOD
    with untrusted.opened(tmp_path / "a.zip") as archive:
        assert archive.names == tuple(GOOD)
        assert archive.read("from.json", 100) == GOOD["from.json"]
        with pytest.raises(DataError, match=r"'model/a.bin' must have at most 100 bytes\. Got 5120"):
            archive.read("model/a.bin", 100)
        with pytest.raises(DataError, match="must hold the file 'other'"):
            archive.read("other", 100)


NAMES = [
    "../evil", "a/../../evil", "/etc/passwd", "..", ".", "a//b", "a/./b", "", "a/", "C:/evil", "C:evil", "a\\..\\evil",
    "\\\\host", "con", "a/NUL.txt", "trailing.", "trailing ", "bell\a", "clear\x1b[2J", "turned\u202e", "x" * 256,
    "/".join("d" * 17), "a?", "~\n",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_not_plain_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    path, info = tmp_path / "a.zip", zipfile.ZipInfo("a")
    info.filename = name  # as it is: the constructor makes names tidy
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, b"x")
    with pytest.raises(DataError, match="must be") as caught:
        unpacked(path, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert not (tmp_path / "out").exists()


def test_a_name_with_a_null_is_refused(tmp_path: Path) -> None:
    path = entry(tmp_path / "a.zip", "goodXevil")
    path.write_bytes(path.read_bytes().replace(b"goodXevil", b"good\0evil"))
    with pytest.raises(DataError, match=r"'good\\x00evil' must be a plain relative name"):
        unpacked(path, tmp_path / "out")


@pytest.mark.parametrize(
    "names", [("a", "a"), ("a", "A"), ("a/b", "A/B"), ("é", "e\u0301"), ("a", "a/b"), ("a/b", "a"), ("ß", "SS")]
)
def test_two_names_of_one_file_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(DataError, match="must be different files"):
        untrusted.check_names(names, "a.zip")
    untrusted.check_names(["a/b", "a/c", "b/a"], "a.zip")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK, stat.S_IFDIR])
def test_a_link_or_the_like_is_refused(tmp_path: Path, kind: int) -> None:
    path = entry(tmp_path / "a.zip", "a", b"/etc/passwd", external_attr=(kind | 0o777) << 16)
    with pytest.raises(DataError, match="'a' must be a file"):
        unpacked(path, tmp_path / "out")


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    zeros = pack(tmp_path / "zeros.zip", {"a": bytes(1 << 19)})
    with pytest.raises(DataError, match="'a' must unpack to at most 200 times its size"):
        unpacked(zeros, tmp_path / "out")
    large = pack(tmp_path / "large.zip", {"a": bytes(1 << 21)}, zipfile.ZIP_STORED)
    with pytest.raises(DataError, match=r"at most 1048576 bytes, unpacked\. It says 2097152"):
        unpacked(large, tmp_path / "out")
    many = pack(tmp_path / "many.zip", {str(i): b"" for i in range(11)})
    with pytest.raises(DataError, match="must hold at most 10 files"):
        unpacked(many, tmp_path / "out")
    overlapping = pack(tmp_path / "same.zip", {"a": os.urandom(1000)}, zipfile.ZIP_STORED)
    with zipfile.ZipFile(overlapping, "a") as archive:
        for name in "bcd":
            info = zipfile.ZipInfo(name)
            info.compress_size = info.file_size = 1000
            info.CRC, info.header_offset = archive.infolist()[0].CRC, 0
            archive.filelist.append(info)
        archive._didModify = True  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="must hold each file in a place of its own"):
        unpacked(overlapping, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file_size": 1 << 33}, "must hold at most 1048576 bytes"),
        ({"file_size": 3}, "must have the size that is stored"),
        ({"flag_bits": 1}, "without a password"),
        ({"compress_type": zipfile.ZIP_BZIP2}, "must be stored or deflated"),
        ({"compress_type": 99}, "must be stored or deflated"),
        ({"CRC": 1}, "'a' is damaged"),
    ],
)
def test_a_false_entry_is_refused(tmp_path: Path, changes: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        unpacked(entry(tmp_path / "a.zip", "a", **changes), tmp_path / "out")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    os.mkfifo(tmp_path / "pipe.zip")
    for path, message in (
        (tmp_path / "text.zip", "must be a zip file"),
        (tmp_path / "absent.zip", "must exist"),
        (tmp_path, "must be a file"),
        (tmp_path / "pipe.zip", "must be a file"),
        (Path("/dev/zero"), "must be a file"),
        (tmp_path / ("x" * 300), "must exist"),
    ):
        with pytest.raises(DataError, match=message):
            unpacked(path, tmp_path / "out")


@given(st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_archive_is_refused_or_equal(tmp_path: Path, data: st.DataObject) -> None:
    stored = pack(tmp_path / "a.zip", GOOD)
    content = bytearray(stored.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    stored.write_bytes(content)
    try:
        found = unpacked(stored, Path(tempfile.mkdtemp(dir=tmp_path)))
    except DataError:
        return
    assert {name: content for name, content in found.items() if GOOD.get(name, content) != content} == {}


def test_a_folder_with_a_link_or_a_pipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").write_text("b")
    assert untrusted.files(tmp_path) == {"a/b.txt": tmp_path / "a" / "b.txt"}
    (tmp_path / "more").symlink_to(tmp_path / "a")
    with pytest.raises(DataError, match="'more' must be a file"):
        untrusted.files(tmp_path)
    (tmp_path / "more").unlink()
    os.mkfifo(tmp_path / "more")
    with pytest.raises(DataError, match="'more' must be a file"):
        untrusted.files(tmp_path)
    with pytest.raises(DataError, match="must be a folder"):
        untrusted.files(tmp_path / "a" / "b.txt")
    with pytest.raises(DataError, match="must hold at most 0 files"):
        untrusted.files(tmp_path / "a", Limits(n_files=0))


ARRAYS = [
    np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)), np.array(3.5),
    np.zeros((0, 4), np.float16), np.array(["one", "three"]), np.array(["é"]).astype(">U1"), np.zeros((0,), "<U3"),
    np.array([True, False]), np.arange(3, dtype=np.uint8),
]  # fmt: skip


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_what_numpy_writes_is_read(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    np.save(tmp_path / "a.npy", array)
    found = untrusted.read_array(tmp_path / "a.npy")
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)


def npy(header: str, body: bytes = b"", version: bytes = b"\1\0") -> bytes:
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H" if version == b"\1\0" else "<I", len(text)) + text + body


def header(descr: str = "'<f8'", order: str = "False", shape: str = "(2,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


@pytest.mark.parametrize(
    "content",
    [
        b"", b"no array", b"\x93NUMPY", b"\x93NUMPY\1\0\xff\xff",
        npy(header()), npy(header(), bytes(15)), npy(header(), bytes(17)),
        npy(header(shape="(1000000000000,)"), bytes(16)), npy(header(shape=f"(0, {10**30})")),
        npy(header(shape="(4294967296, 4294967296)")), npy(header(shape="(-2,)"), bytes(16)),
        npy(header(shape="(" + "1," * 70 + ")"), bytes(8)),
        npy(header("'|O'"), bytes(16)), npy(header("[('a', '<f8')]"), bytes(16)), npy(header("'<M8[s]'"), bytes(16)),
        npy(header("'|V8'"), bytes(16)), npy(header("'<f3'"), bytes(16)), npy(header("'<U999999999'"), bytes(16)),
        npy(header(order="exit()"), bytes(16)), npy("(" * 9000), npy(header(), bytes(16), b"\3\0"),
        npy(header(), bytes(16), b"\x09\0"), npy(header() + " " * 20_000, bytes(16), b"\2\0"),
        npy(header("'<U2'", shape="(1,)"), b"a\0\0\0\0\0\x11\0"), npy(header("'<U1'", shape="(1,)"), b"\0\xd8\0\0"),
    ],
    ids=range(25),
)  # fmt: skip
def test_what_is_no_plain_array_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match="must") as caught:
        untrusted.read_array(tmp_path / "a.npy")
    assert "\n" not in str(caught.value)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "a.npy").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match=r"must be a \.npy file of plain numbers"):
        untrusted.read_array(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"must hold values of the kinds i, u\. Got float64"):
        untrusted.read_array(tmp_path / "a.npy", "iu")


TENSORS = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.zeros(0), "c": np.array(True), "d": np.arange(3)}


def test_tensors_are_named_with_type_and_shape(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "t.safetensors", {"about": "this"})
    found = untrusted.tensor_shapes(tmp_path / "t.safetensors")
    assert found == {"b": ("F32", (2, 3)), "a": ("F64", (0,)), "c": ("BOOL", ()), "d": ("I64", (3,))}
    save_file({}, tmp_path / "none.safetensors")
    assert untrusted.tensor_shapes(tmp_path / "none.safetensors") == {}


def tensors(table: object, body: bytes = b"", length: int | None = None) -> bytes:
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(dtype: object = "F32", shape: object = (2,), place: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": place}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0" * 7, tensors({}, length=10 * 2**30), tensors({}, length=2**64 - 1), tensors({}, b"more"),
        tensors(b"[" * 100_000), tensors(b"\xff\xff"), tensors([]), tensors(b"nu"), tensors({"a": 1}),
        tensors({"a": tensor()}), tensors({"a": tensor()}, bytes(7)), tensors({"a": tensor()}, bytes(9)),
        tensors({"a": tensor("F99")}, bytes(8)), tensors({"a": tensor(["F32"])}, bytes(8)),
        tensors({"a": tensor(shape=[-2])}, bytes(8)), tensors({"a": tensor(shape=[2**62, 4])}, bytes(8)),
        tensors({"a": tensor(shape=[True, 2])}, bytes(8)), tensors({"a": tensor(place=[0])}, bytes(8)),
        tensors({"a": tensor(place=[8, 0])}, bytes(8)), tensors({"a": tensor(place=[4, 12])}, bytes(12)),
        tensors({"a": tensor(), "b": tensor()}, bytes(8)), tensors({"a": {**tensor(), "more": 1}}, bytes(8)),
        tensors(f'{{"a": {json.dumps(tensor())}, "a": {json.dumps(tensor())}}}'.encode(), bytes(8)),
    ],
    ids=range(24),
)  # fmt: skip
def test_what_are_no_whole_tensors_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="must") as caught:
        untrusted.tensor_shapes(tmp_path / "t.safetensors")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


READERS: dict[str, tuple[bytes, Callable[[Path], Any], Callable[[Path], Any]]] = {
    "t.safetensors": (save(TENSORS), untrusted.tensor_shapes, load_file),
    "a.npy": (npy(header(), bytes(16)), untrusted.read_array, np.load),
}


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_taken_is_what_the_library_reads(tmp_path: Path, name: str, data: st.DataObject) -> None:
    content, ours, theirs = READERS[name]
    changed = bytearray(content)
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / name).write_bytes(changed)
    try:
        found = ours(tmp_path / name)
    except DataError:
        return
    expected = theirs(tmp_path / name)
    if isinstance(found, dict):
        assert {key: shape for key, (_, shape) in found.items()} == {key: item.shape for key, item in expected.items()}
    else:
        np.testing.assert_array_equal(found, expected)
