import threading
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

    writers = [threading.Thread(target=write, args=(letter * 2000,)) for letter in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_text() in ("a" * 2000, "b" * 2000)
    assert list(tmp_path.iterdir()) == [path]
