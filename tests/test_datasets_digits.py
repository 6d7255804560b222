"""datasets/digits.py: what it hands out is whole and the same everywhere; what it cannot, it says why and what to do.

No test needs the network or the real MNIST: a stand-in with the same four files, but images of 2×2 pixels that hold
their own number, is read from disk or served from the loopback address. Where $KD_DATA holds MNIST, its splits are
checked too.
"""

import gzip
import hashlib
import http.server
import multiprocessing
import os
import shutil
import signal
import socket
import stat
import struct
import tempfile
import threading
import time
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.datasets import MNIST

from kdutils import DataError, Split, load_dataset
from kdutils.datasets import digits as digits_module

# A server process that has imported the package once and forks the processes that tests ask for.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["kdutils"])


def stand_in_files() -> dict[str, bytes]:
    files = {}
    for part, count in (("train", 10_100), ("t10k", 20)):
        number = np.arange(count, dtype=">u4")
        files[f"{part}-images-idx3-ubyte"] = struct.pack(">4I", 2051, count, 2, 2) + number.tobytes()
        labels = (number % 10).astype(np.uint8)
        files[f"{part}-labels-idx1-ubyte"] = struct.pack(">2I", 2049, count) + labels.tobytes()
    return files


FILES = stand_in_files()
ARCHIVES = {f"/{name}.gz": gzip.compress(content, mtime=0) for name, content in FILES.items()}


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def use_stand_in(address: str, timeout: float = 10.0, put=setattr) -> None:
    put(digits_module, "MNIST_FILES", {name: md5(content) for name, content in FILES.items()})
    put(digits_module, "NETWORK_TIMEOUT", timeout)
    put(MNIST, "resources", [(path[1:], md5(archive)) for path, archive in ARCHIVES.items()])
    put(MNIST, "mirrors", [address])


def load_in_new_process(folder: Path, address: str, scratch: Path) -> None:
    use_stand_in(address)
    tempfile.tempdir = str(scratch)
    load_dataset("mnist", folder)


@pytest.fixture
def offline(monkeypatch) -> str:
    """The stand-in in place of MNIST, and for a mirror an address where nobody listens."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    use_stand_in(address, timeout=0.5, put=monkeypatch.setattr)
    return address


@pytest.fixture
def folder(offline) -> Path:
    """A folder with the whole stand-in, which another user may read too."""
    folder = Path(tempfile.mkdtemp())
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in FILES.items():
        (raw / name).write_bytes(content)
    for path in (folder, folder / "MNIST", raw):
        path.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def send_all(handler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


@contextmanager
def mirror(answer=send_all):
    """A loopback server of the archives. ``answer(handler, archive)`` writes what it likes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self, ARCHIVES[self.path])

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    server.handle_error = lambda *_: None  # a client that hangs up early is no news
    threading.Thread(target=partial(server.serve_forever, poll_interval=0.02), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def as_another_user():
    """Root may read anything, so under root the loading is done as nobody."""
    if os.name != "posix":
        pytest.skip("file permissions of this kind exist on POSIX systems only")
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def refusal(folder: Path, name: str = "mnist") -> str:
    """The message of the DataError that loading must raise, soon."""
    start = time.monotonic()
    with warnings.catch_warnings(), pytest.raises(DataError) as caught:
        warnings.simplefilter("error", UserWarning)  # no falling back to digits
        load_dataset(name, folder)
    assert time.monotonic() - start < 8
    return str(caught.value)


ADVICE = "set KD_DATA to the folder that holds MNIST/raw, or check the network"


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# Files on disk


@pytest.mark.parametrize("name", ["mnist", "auto"])
@pytest.mark.parametrize(
    "damage",
    [lambda good: good[:-1], lambda good: b"", lambda good: good[:20] + b"\xff" + good[21:], lambda good: good + b"0"],
    ids=["truncated", "empty", "one byte changed", "too long"],
)
def test_a_damaged_file_is_named_with_its_cure_and_left_where_it_is(folder, damage, name):
    bad = folder / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    damaged = damage(FILES[bad.name])
    bad.write_bytes(damaged)
    message = refusal(folder, name)
    assert f"{bad} is damaged or of another data set" in message and "Move it away and load again" in message
    assert "elete" not in message  # it may be a good file of Fashion-MNIST, which has the same names
    assert bad.read_bytes() == damaged


def test_a_missing_file_is_named_when_it_cannot_be_fetched(folder, offline):
    (folder / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    message = refusal(folder)
    assert f"MNIST is not in {folder / 'MNIST' / 'raw'}" in message and offline in message
    assert "Missing: t10k-labels-idx1-ubyte. " in message
    assert everything_in(folder) == sorted(["MNIST", "MNIST/raw"] + [f"MNIST/raw/{n}" for n in list(FILES)[:3]])


@pytest.mark.parametrize("name", ["mnist", "auto"])
@pytest.mark.parametrize("locked", [".", "MNIST/raw", "MNIST/raw/train-labels-idx1-ubyte"])
def test_an_unreadable_folder_or_file_is_named_with_its_cure(folder, locked, name):
    path = folder / locked
    before = stat.S_IMODE(path.stat().st_mode)
    path.chmod(0)
    try:
        with as_another_user():
            message = refusal(folder, name)
    finally:
        path.chmod(before)
    assert str(folder / "MNIST" / "raw") in message and "Permission denied" in message
    assert "make" in message and "readable, or set KD_DATA to another folder" in message


def test_a_folder_that_cannot_be_written_is_named_with_its_cure(folder):
    shutil.rmtree(folder / "MNIST")
    folder.chmod(0o555)
    with as_another_user():
        message = refusal(folder)
    assert f"cannot store MNIST in {folder / 'MNIST' / 'raw'}: Permission denied" in message
    assert "KD_DATA to a folder that can be written" in message


def test_files_outside_the_checked_four_are_never_read(folder):
    old = folder / "MNIST" / "processed"  # where old versions of torchvision kept a copy that nobody checks
    old.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(11_000, 2, 2, dtype=torch.uint8), torch.arange(11_000) % 10), old / name)
    assert len(load_dataset("mnist", folder).test) == 20


def test_the_folder_is_the_argument_then_kd_data_then_the_cache_at_home(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KD_DATA", raising=False)
    assert str(tmp_path / ".cache" / "kdutils") in refusal(None)
    monkeypatch.setenv("KD_DATA", str(tmp_path / "elsewhere"))
    assert str(tmp_path / "elsewhere") in refusal(None)
    assert load_dataset("mnist", folder).name == "mnist"
    monkeypatch.setenv("KD_DATA", str(folder))
    assert load_dataset("mnist").name == "mnist"


def test_the_folder_is_recognised_from_within_and_files_may_lie_in_it(folder, tmp_path):
    for named in (folder / "MNIST", folder / "MNIST" / "raw"):
        assert len(load_dataset("mnist", named).test) == 20
    flat = tmp_path / "my digits"
    shutil.copytree(folder / "MNIST" / "raw", flat)
    assert len(load_dataset("mnist", flat).test) == 20
    archives = tmp_path / "downloads"
    archives.mkdir()
    for path, archive in ARCHIVES.items():
        (archives / path[1:]).write_bytes(archive)
    assert len(load_dataset("mnist", archives).test) == 20


@pytest.mark.parametrize("inside", ["MNIST", "MNIST/raw"])
def test_an_empty_folder_of_that_name_is_where_the_files_belong(tmp_path, offline, inside):
    message = refusal(tmp_path / inside)
    assert f"MNIST is not in {tmp_path / 'MNIST' / 'raw'}: " in message
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize("unpacked", [0, 1, 4])
def test_archives_as_servers_offer_them_are_taken_beside_or_instead_of_the_files(folder, unpacked):
    raw = folder / "MNIST" / "raw"
    expected = load_dataset("mnist", folder)
    for number, (path, archive) in enumerate(ARCHIVES.items()):
        (raw / path[1:]).write_bytes(archive)
        if number >= unpacked:
            (raw / path[1:-3]).unlink()
    before = everything_in(folder)
    loaded = load_dataset("mnist", folder)
    assert torch.equal(loaded.train.images, expected.train.images)
    assert torch.equal(loaded.test.labels, expected.test.labels)
    assert everything_in(folder) == before  # nothing is unpacked into a folder of the user's


@pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(b"other digits"), ARCHIVES[min(ARCHIVES)][:-20]])
def test_a_damaged_archive_is_named(folder, content):
    raw = folder / "MNIST" / "raw"
    name = min(FILES)
    (raw / name).unlink()
    (raw / f"{name}.gz").write_bytes(content)
    assert f"{raw / name}.gz is damaged or of another data set" in refusal(folder)


def test_a_message_is_one_line_with_its_advice_at_the_start(tmp_path, offline):
    for message in (refusal(tmp_path), refusal(tmp_path / "MNIST" / "raw")):
        assert "\n" not in message and len(message) < 600
        assert message.removeprefix(f"MNIST is not in {tmp_path / 'MNIST' / 'raw'}: ").startswith(ADVICE)


def test_only_what_was_missing_is_written(folder, monkeypatch):
    raw = folder / "MNIST" / "raw"
    (raw / "t10k-labels-idx1-ubyte").unlink()
    before = {path: path.stat().st_mtime_ns for path in raw.iterdir()}
    with mirror() as address:
        monkeypatch.setattr(MNIST, "mirrors", [address])
        load_dataset("mnist", folder)
    assert (raw / "t10k-labels-idx1-ubyte").read_bytes() == FILES["t10k-labels-idx1-ubyte"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


# The network


def hang_up(handler, archive):
    handler.wfile.write(b"neither HTTP nor gzip\r\n\r\n")


def stall_half_way(handler, archive):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(archive)))
    handler.end_headers()
    handler.wfile.write(archive[: len(archive) // 2])
    time.sleep(20)


def break_off_a_chunk(handler, archive):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nonly this")


ANSWERS = {
    "no HTTP": hang_up,
    "not found": lambda handler, archive: handler.send_error(404),
    "a login page": lambda handler, archive: send_all(handler, b"<html>Please log in</html>"),
    "a damaged archive": lambda handler, archive: send_all(handler, archive[:-9] + b"damaged!!"),
    "half an archive": lambda handler, archive: send_all(handler, archive[: len(archive) // 2]),
    "half an archive, then silence": stall_half_way,
    "a broken chunk": break_off_a_chunk,
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_a_bad_download_names_address_folder_and_cure_and_leaves_nothing(tmp_path, offline, monkeypatch, answer):
    with mirror(answer) as address:
        monkeypatch.setattr(MNIST, "mirrors", [address])
        message = refusal(tmp_path)
    assert address in message and str(tmp_path) in message and ADVICE in message
    assert everything_in(tmp_path) == []


def test_no_network_is_reported_with_address_folder_and_cure(tmp_path, offline):
    message = refusal(tmp_path)
    assert offline in message and f"MNIST is not in {tmp_path / 'MNIST' / 'raw'}: {ADVICE}" in message
    assert everything_in(tmp_path) == []


def test_a_network_that_hangs_is_given_up_and_the_time_out_goes_back(tmp_path, offline, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setattr(MNIST, "mirrors", [address])
        message = refusal(tmp_path)
    assert address in message and "timed out" in message and ADVICE in message
    assert socket.getdefaulttimeout() is None


def test_the_shipped_time_out_is_a_matter_of_seconds():
    assert 1 <= digits_module.NETWORK_TIMEOUT <= 30


def test_two_processes_may_download_at_once(tmp_path, offline):
    both = threading.Barrier(2)

    def in_step(handler, archive):
        both.wait(timeout=120)  # neither process gets an archive before the other has asked for it
        send_all(handler, archive)

    with mirror(in_step) as address:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        arguments = (tmp_path / "data", address, scratch)
        processes = [PROCESSES.Process(target=load_in_new_process, args=arguments) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0, 0]
    assert {path.name: path.read_bytes() for path in (tmp_path / "data" / "MNIST" / "raw").iterdir()} == FILES
    assert everything_in(scratch) == []


def test_a_download_killed_half_way_leaves_no_file_and_the_next_one_succeeds(tmp_path, offline, monkeypatch):
    third_file = threading.Event()

    def stall_at_third_file(handler, archive):
        if "t10k-images" in handler.path:
            third_file.set()
            time.sleep(20)
        send_all(handler, archive)

    with mirror(stall_at_third_file) as address:
        data, scratch = tmp_path / "data", tmp_path / "scratch"
        scratch.mkdir()
        process = PROCESSES.Process(target=load_in_new_process, args=(data, address, scratch))
        process.start()
        assert third_file.wait(120)
        process.kill()
        process.join(10)
    assert process.exitcode == -signal.SIGKILL
    assert everything_in(scratch) != [] and not data.exists()
    with mirror() as address:
        monkeypatch.setattr(MNIST, "mirrors", [address])
        assert len(load_dataset("mnist", data).test) == 20


# Which data set


def test_auto_takes_mnist_without_a_word_where_it_is(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_dataset("auto", folder).name == "mnist"


def test_auto_falls_back_to_digits_with_a_warning_that_says_why(tmp_path, offline):
    with pytest.warns(UserWarning, match="numbers will differ from the published ones. MNIST is not in") as caught:
        assert load_dataset("auto", tmp_path).name == "digits"
    assert everything_in(tmp_path) == []
    assert offline in str(caught[0].message) and caught[0].filename == __file__


def test_digits_needs_no_folder_no_network_and_no_warning(tmp_path, offline):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_dataset("digits", tmp_path / "absent").name == "digits"
    assert not (tmp_path / "absent").exists()


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="name must be .* got 'cifar'"):
        load_dataset("cifar")


# Splits


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def fingerprint(split: Split) -> tuple[str, float]:
    """The order of the labels and the sum of the pixels, which another machine may round otherwise."""
    return hashlib.sha256(split.labels.numpy().tobytes()).hexdigest()[:16], float(split.images.double().sum())


def image_hashes(split: Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


def check_parts(loaded, sizes, fingerprints) -> None:
    parts = (loaded.train, loaded.val, loaded.test)
    assert tuple(map(len, parts)) == sizes
    for part, (labels, pixels) in zip(parts, fingerprints, strict=True):
        assert part.images.dtype == torch.float32 and part.labels.dtype == torch.int64
        assert part.images.min() == 0 and part.images.max() <= 1
        assert fingerprint(part) == (labels, pytest.approx(pixels, rel=1e-6))
    # Every image is unique in both sets: as many different ones as examples means that no two parts share one.
    assert len(set.union(*map(image_hashes, parts))) == sum(sizes)


def check_stratified(whole, part) -> None:
    expected = torch.bincount(whole) * len(part) / len(whole)
    assert (torch.bincount(part) - expected).abs().max() <= 1


def test_digits_is_scikit_learns_set_once_each_split_as_pinned(digits):
    check_parts(
        digits,
        (997, 300, 500),
        [("967121c3b83cbab3", 121303.905), ("1afaa8131aa953ee", 37047.2652), ("36213efead88ec95", 61069.9212)],
    )
    labels = torch.cat([digits.train.labels, digits.val.labels, digits.test.labels])
    check_stratified(labels, digits.test.labels)
    check_stratified(torch.cat([digits.train.labels, digits.val.labels]), digits.val.labels)
    assert torch.bincount(labels).tolist() == np.bincount(load_digits().target).tolist()


def test_digits_fills_the_inner_20_by_20_pixels_as_mnist_does(digits):
    assert digits.test.images.shape == (500, 1, 28, 28)
    inner = digits.test.images[:, :, 4:24, 4:24]
    assert digits.test.images.sum() == pytest.approx(inner.sum().item()) and inner.max() > 0.9


@pytest.mark.skipif(
    not all((Path(os.environ.get("KD_DATA") or "/absent") / "MNIST" / "raw" / name).is_file() for name in FILES),
    reason="NOT CHECKED: the splits of the real MNIST, which $KD_DATA does not hold",
)
def test_mnist_is_split_as_pinned():
    loaded = load_dataset("mnist", os.environ["KD_DATA"])
    sums = [1304933597 / 255, 262364961 / 255, 264923202 / 255]
    labels = ["b71e38b377adac78", "e482d094cfb6ed9c", "2fd8de6bdb8d1178"]
    check_parts(loaded, (50_000, 10_000, 10_000), list(zip(labels, sums, strict=True)))
    check_stratified(torch.cat([loaded.train.labels, loaded.val.labels]), loaded.val.labels)
    assert loaded.test.labels[:5].tolist() == [7, 2, 1, 0, 4]  # the test set is in its original order


def test_the_split_neither_heeds_nor_moves_the_global_random_numbers(folder):
    torch.manual_seed(1)
    np.random.seed(1)
    before = np.random.get_state()[1].tolist(), torch.get_rng_state()
    first = load_dataset("mnist", folder)
    assert before[0] == np.random.get_state()[1].tolist() and torch.equal(before[1], torch.get_rng_state())
    np.random.seed(2)
    torch.manual_seed(2)
    assert torch.equal(first.val.images, load_dataset("mnist", folder).val.images)


def test_mnist_files_are_split_into_disjoint_stratified_parts_that_keep_image_and_label_together(folder):
    loaded = load_dataset("mnist", folder)
    numbers = []
    for part in (loaded.train, loaded.val, loaded.test):
        digits = (part.images * 255).round().long().flatten(1)
        numbers.append((digits @ torch.tensor([2**24, 2**16, 2**8, 1])).tolist())
        assert part.labels.tolist() == [number % 10 for number in numbers[-1]]
    assert sorted(numbers[0] + numbers[1]) == list(range(10_100)) and numbers[2] == list(range(20))
    assert torch.bincount(loaded.val.labels).tolist() == [1000] * 10
    # Pinned: the same 100 of the 10,100 on every machine and with every version of scikit-learn.
    assert hashlib.sha256(str(numbers[0]).encode()).hexdigest()[:16] == "e160442cd3aeff38"
