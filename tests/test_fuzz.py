"""Hostile input: with any options and any damaged files, a command succeeds or prints one sentence that says why not.

python -m pytest tests/test_fuzz.py --fuzz_cases 1000
"""

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CLI, Images, peak_memory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import photos
from mnist_lit.errors import UserError
from mnist_lit.pictures import preprocess, read_picture

ROOT = Path(__file__).parent.parent
ONE_STEP = ("--trainer.max_steps=1", "--trainer.limit_val_batches=1")

numbers = st.one_of(st.integers(-(10**20), 10**20), st.integers(-2, 200), st.floats(), st.floats(0, 1)).map(str)
odd = ["", " ", "null", "true", "nan", "[]", "{}", "[[[", "{a: b", "!!python/name:os.system", "&a [*a]", "🖋"]
text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
sizes = st.lists(st.integers(0, 10**9) | st.integers(1, 100), max_size=4).map(str)
values = st.one_of(numbers, sizes, st.sampled_from(odd), text)
names = st.sampled_from(
    [
        *("model.hidden_sizes", "model.activation", "model.nesterov", "model.schedule"),
        *("model.lr", "model.momentum", "model.weight_decay"),
        *(f"data.{name}" for name in ("batch_size", "val_size", "seed")),
        *(f"data.augment.{name}" for name in ("rotation", "shift", "scale", "shear", "elastic", "elastic_sigma")),
        *(f"trainer.{name}" for name in ("max_epochs", "limit_train_batches", "gradient_clip_val", "precision")),
        *(f"trainer.{name}" for name in ("log_every_n_steps", "val_check_interval", "callbacks", "logger")),
        *("seed_everything", "ckpt_path", "config", "colour"),
    ]
)  # fmt: skip
options = st.dictionaries(names, values, min_size=1, max_size=3)


@pytest.fixture(scope="session")
def cases(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("fuzz_cases")) // 4


def others(files: Path) -> set[Path]:
    """Return the files that no run should touch; without a logger Lightning puts checkpoints beside lightning_logs."""
    return {path for path in files.rglob("*") if not {"lightning_logs", "checkpoints"} & set(path.parts)}


def ends_well(cli: CLI, *command: str, files: Path) -> None:
    """Run a command; assert that it succeeds or says why not, in limited time and memory, and leaves no other files."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the highest memory, which may be of an earlier test
    before, memory = others(files), peak_memory()
    start = time.perf_counter()
    result = cli(*command)
    assert time.perf_counter() - start < 60
    assert peak_memory() - memory < 500_000
    assert before == others(files)
    if result.status:
        errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, result
        assert len(errors[0]) > 20
    assert "Traceback" not in result.err
    shutil.rmtree(files / "lightning_logs", ignore_errors=True)


def fuzz(cases: int, test: Callable[..., None], *strategies: st.SearchStrategy[Any]) -> None:
    """Test other cases in each run; a failure prints its case, as the shortest that fails."""
    slow = [HealthCheck.too_slow]
    ours = settings(max_examples=cases, deadline=None, database=None, print_blob=True, suppress_health_check=slow)
    ours(given(*strategies)(test))()


def test_hostile_options_end_in_success_or_one_error(cli: CLI, tmp_path: Path, cases: int) -> None:
    def try_options(given_options: dict[str, str]) -> None:
        command = ["fit", *(f"--{name}={value}" for name, value in given_options.items()), *ONE_STEP]
        ends_well(cli, *command, files=tmp_path)

    fuzz(cases, try_options, options)


def test_hostile_configs_end_in_success_or_one_error(cli: CLI, tmp_path: Path, cases: int) -> None:
    recipes = [path.read_bytes() for path in sorted((ROOT / "configs").glob("*.yaml")) if path.stem != "ddp"]

    def try_config(recipe: bytes, position: int, inserted: bytes, removed: int) -> None:
        position %= len(recipe)
        config = tmp_path / "hostile.yaml"
        config.write_bytes(recipe[:position] + inserted + recipe[position + removed :])
        ends_well(cli, "fit", "--config=hostile.yaml", *ONE_STEP, files=tmp_path)

    fuzz(cases, try_config, st.sampled_from(recipes), st.integers(0, 1000), st.binary(max_size=10), st.integers(0, 10))


def damaged(content: bytes, damage: Any) -> bytes:
    """Return ``content`` cut or with a bit flipped."""
    kind, position = damage
    position %= len(content)
    if kind == "cut":
        return content[:position]
    return content[:position] + bytes([content[position] ^ 1 << kind]) + content[position + 1 :]


damages = st.tuples(st.one_of(st.just("cut"), st.integers(0, 7)), st.integers(0, 10**8))


def test_damaged_checkpoints_end_in_success_or_one_error(cli: CLI, tmp_path: Path, cases: int) -> None:
    cli("fit", *ONE_STEP)
    whole = (tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt").read_bytes()
    commands = st.sampled_from([("fit", "--trainer.max_steps=2"), ("validate",), ("test",), ("predict",)])

    def try_checkpoint(command: tuple[str, ...], damage: Any) -> None:
        (tmp_path / "damaged.ckpt").write_bytes(damaged(whole, damage))
        ends_well(cli, *command, "--ckpt_path=damaged.ckpt", files=tmp_path)

    fuzz(cases, try_checkpoint, commands, damages)


def test_damaged_pictures_are_read_or_refused(test_images: Images, tmp_path: Path, cases: int) -> None:
    rough = photos.rough((test_images[0][0, 0] * 255).byte(), np.random.default_rng(0))
    photo = rough.convert("RGB").resize((120, 120))
    files = []
    for kind in "png", "jpeg", "bmp", "gif", "webp", "tiff":
        photo.save(tmp_path / "whole", kind)
        files.append((tmp_path / "whole").read_bytes())
    near_the_start = st.tuples(st.integers(0, 7), st.integers(0, 600))  # where a file names its format and size

    def try_picture(whole: bytes, damage: Any) -> None:
        path = tmp_path / "damaged"
        path.write_bytes(damaged(whole, damage))
        with suppress(UserError):  # no other error, whatever the damage
            assert preprocess(read_picture(path)).shape == (1, 28, 28)

    fuzz(10 * cases, try_picture, st.sampled_from(files), damages | near_the_start)  # a hundredth of a second each
