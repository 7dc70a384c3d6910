"""Archives made by strangers: what is read, and everything that is refused (SPEC TOL-2)."""

import gzip
import io
import tarfile
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.factories.storage import make_archive, make_tar, member

from chargehand.storage.archives import BadArchive, Entry, Limits, entries
from chargehand.storage.paths import problem_of

SMALL = Limits(total_bytes=10_000, file_bytes=4_000, entries=20)


def read(archive: bytes, limits: Limits = SMALL) -> list[Entry]:
    return list(entries(io.BytesIO(archive), limits))


def refused(archive: bytes, limits: Limits = SMALL) -> BadArchive:
    with pytest.raises(BadArchive) as caught:
        read(archive, limits)
    return caught.value


@pytest.mark.parametrize(
    "format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=str
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["tar", "gzip"])
def test_each_common_format_is_read(format: int, pack: type[bytes]) -> None:
    long = "/".join(["d" * 60] * 3) + "/x.txt"
    archive = make_tar(
        member("./", type=tarfile.DIRTYPE),
        member("./src/", type=tarfile.DIRTYPE),
        member("./src/run.sh", b"echo", mode=0o755),
        member(long, b"deep"),
        format=format,
    )
    assert read(pack(archive)) == [
        Entry("src/run.sh", True, b"echo"),
        Entry(long, False, b"deep"),
    ]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_long_names_of_any_script_are_read(format: int) -> None:
    name = "папка/" + "名" * 80 + ".txt"
    assert read(make_tar(member(name, b"x"), format=format)) == [Entry(name, False, b"x")]


def test_global_extended_headers_as_of_git_archive_are_read() -> None:
    archive = make_tar(member("a", b"1"), pax_headers={"comment": "f" * 40})
    assert read(archive) == [Entry("a", False, b"1")]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "character device"),
        (tarfile.BLKTYPE, "block device"),
        (tarfile.FIFOTYPE, "FIFO"),
        (b"Q", "unknown type"),
    ],
)
def test_what_is_not_a_file_or_folder_is_refused(kind: bytes, reason: str) -> None:
    error = refused(make_tar(member("good", b"x"), member("odd", type=kind, linkname="/etc")))
    assert reason in error.message
    assert error.details["entry"] == "odd"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/passwd", "absolute"),
        ("../up", "'..'"),
        ("a/../../up", "'..'"),
        ("a/./b", "'.'"),
        ("a//b", "empty component"),
        ("a\\..\\b", "backslash"),
        ("a\nb", "control character"),
        ("n" * 256, "longer than 255"),
        ("/".join(["d"] * 65), "64 folders deep"),
        ("/".join(["d" * 200] * 6), "longer than 1024"),
        ("file/", "empty component"),
        ("", "empty component"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(name: str, reason: str) -> None:
    error = refused(make_tar(member(name, b"x", type=tarfile.REGTYPE)))
    assert reason in error.message


def test_names_that_are_not_utf_8_are_refused() -> None:
    archive = make_tar(member("caf\udce9", b"x"), format=tarfile.GNU_FORMAT)
    assert "not UTF-8" in refused(archive).message


def test_a_nul_in_an_extended_name_is_refused() -> None:
    archive = make_tar(member("plain", b"x", pax_headers={"path": "a\0b"}))
    assert "control character" in refused(archive).message


def test_an_extended_name_cannot_lead_out() -> None:
    archive = make_tar(member("plain", b"x", pax_headers={"path": "../../etc/cron.d/x"}))
    assert "'..'" in refused(archive).message
    everywhere = make_tar(member("plain", b"x"), pax_headers={"path": "/etc/x"})
    assert "absolute" in refused(everywhere).message


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([member("a", b"1"), member("a", b"2")], "twice"),
        ([member("a", b"1"), member("./a", b"2")], "twice"),
        ([member("a", b"1"), member("a/b", b"2")], "a file and a folder"),
        ([member("a/b", b"1"), member("a", b"2")], "a file and a folder"),
        ([member("a", b"1"), member("a", type=tarfile.DIRTYPE)], "a file and a folder"),
        ([member("a", type=tarfile.DIRTYPE), member("a", b"1")], "a file and a folder"),
    ],
)
def test_names_that_clash_are_refused(
    members: list[tuple[tarfile.TarInfo, bytes]], reason: str
) -> None:
    assert reason in refused(make_tar(*members)).message


def test_sparse_files_are_refused() -> None:
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 12}
    assert "sparse" in refused(make_tar(member("s", b"0\n", pax_headers=headers))).message
    assert "sparse" in refused(make_tar(member("s", type=tarfile.GNUTYPE_SPARSE))).message


def test_limits_hold() -> None:
    assert "larger than 4,000" in refused(make_archive({"a": b"x" * 4_001})).message
    total = make_archive({str(i): b"x" * 4_000 for i in range(3)})
    assert "more than 10,000 bytes" in refused(total).message
    many = make_archive({str(i): b"" for i in range(21)})
    assert "more than 20 files" in refused(many).message
    folders = make_archive({f"{i}/{i}/x": b"" for i in range(11)})
    assert "more than 20 files or folders" in refused(folders).message


def test_a_bomb_is_refused_without_being_unpacked() -> None:
    bomb = gzip.compress(make_tar(member("bomb", bytes(100_000_000))), 1)
    began = time.process_time()
    assert "larger than" in refused(bomb).message
    assert time.process_time() - began < 0.5


def test_zeros_without_end_are_refused() -> None:
    tail = gzip.compress(make_tar(member("a", b"x")) + bytes(5_000_000))
    assert "data after its end" in refused(tail).message


def test_a_bomb_of_extended_headers_takes_no_quadratic_time() -> None:
    # CVE-2024-6232: tarfile needs minutes of processor time for headers such as these.
    info, _ = member("x", b"1" * 60_000, type=tarfile.XHDTYPE)
    body = info.tobuf() + b"1" * 60_000 + bytes(-60_000 % 512)
    began = time.process_time()
    assert "extended header is damaged" in refused(body * 10 + bytes(1024), Limits()).message
    assert time.process_time() - began < 0.5
    large, _ = member("x", b"1" * 70_000, type=tarfile.GNUTYPE_LONGNAME)
    assert "larger than 65,536" in refused(large.tobuf() + b"1" * 70_000, Limits()).message


@pytest.mark.parametrize(
    "size", [b"\x80" + b"\xff" * 11, b"\xff" * 12, b"-0000000001\0", b"1_0" * 4]
)
def test_sizes_that_lie_are_refused(size: bytes) -> None:
    block = bytearray(make_tar(member("a", b"x"))[:512])
    block[124:136] = size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    refused(bytes(block) + bytes(2048))


GOOD = make_archive({"a": b"hello" * 100, "b/c": b"x" * 700})


@given(st.integers(0, len(GOOD) - 1))
def test_an_archive_cut_anywhere_is_refused(end: int) -> None:
    refused(GOOD[:end])


def test_an_uncompressed_archive_cut_anywhere_before_its_end_is_refused() -> None:
    plain = make_tar(member("a", b"hello"))
    for end in range(0, 1024 + 512, 64):
        refused(plain[:end])
    assert len(read(plain[: 1024 + 512])) == 1


@given(st.binary(max_size=2_000))
def test_garbage_is_refused(garbage: bytes) -> None:
    refused(b"\x01" + garbage)
    refused(b"\x1f\x8b" + garbage)


@given(st.integers(0, 1023), st.integers(0, 255))
def test_a_changed_byte_is_refused_or_changes_only_what_it_may(at: int, value: int) -> None:
    damaged = bytearray(make_tar(member("name", b"content"), format=tarfile.USTAR_FORMAT))
    damaged[at] = value
    try:
        found = read(bytes(damaged))
    except BadArchive:
        return
    assert all(problem_of(entry.path) is None for entry in found)


def test_a_damaged_checksum_of_gzip_is_refused() -> None:
    damaged = bytearray(GOOD)
    damaged[-6] ^= 0xFF
    assert "damaged or cut off" in refused(bytes(damaged)).message


def test_data_behind_the_end_is_refused() -> None:
    hidden = make_tar(member("a", b"x")) + make_tar(member("../b", b"x"))
    assert "data after its end" in refused(hidden).message
