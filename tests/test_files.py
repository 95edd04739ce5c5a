import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mnist_lit.files import replacing


def test_two_simultaneous_writers_leave_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    both_write = threading.Barrier(2)

    def write(text: str) -> None:
        with replacing(path) as unfinished:
            unfinished.write_text(text[:1000])
            both_write.wait()
            unfinished.write_text(text)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, ("a" * 2000, "b" * 2000)))  # an error of a thread fails the test
    assert path.read_text() in ("a" * 2000, "b" * 2000)
    assert list(tmp_path.iterdir()) == [path]
