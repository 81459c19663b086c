"""What is installed: the wheel and the source archive, in environments without the extras.

The environment is a new one. It holds the wheel, and links to the packages that the wheel's own
metadata asks for and to what these need: whatever else is installed here is not there.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from calling import call
from packaging.requirements import Requirement

from policy import answer
from rankreward.datasets.digits import scenes

ROOT = Path(__file__).parents[1]
EXTRAS = {"trl", "ray", "eval", "report", "cli", "demo", "all", "dev", "bench"}
NAMED = re.compile(r"pip install 'rankreward\[([a-z]+)\]'")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive and the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder)
    return folder


def build(source: Path, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder],
        cwd=source, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower()


def wheel_of(folder: Path) -> Path:
    (wheel,) = folder.glob("*.whl")
    return wheel


def closure(names: list[str]) -> set[str]:
    """These distributions, and what they need without any extra."""
    found: set[str] = set()
    while names:
        name = re.sub(r"[-_.]+", "-", names.pop()).lower()
        if name in found:
            continue
        found.add(name)
        for text in metadata.requires(name) or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                names.append(wanted.name)
    return found


def make_environment(folder: Path, wheel: Path, extras: set[str]) -> Path:
    """A new environment with the wheel and what it asks for; the folder of its programs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    programs = folder / "bin"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", programs / "python", "install", "-q",
         "--no-deps", "--no-index", wheel],
        check=True, capture_output=True,
    )  # fmt: skip
    (library,) = folder.glob("lib/python*/site-packages")
    asked = []
    (info,) = library.glob("rankreward-*.dist-info")
    for text in metadata.PathDistribution(info).requires or ():
        wanted = Requirement(text)
        where = [{"extra": extra} for extra in {"", *extras}]
        if wanted.marker is None or any(wanted.marker.evaluate(each) for each in where):
            asked.append(wanted.name)
    for name in closure(asked):
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            link, target = library / top, Path(str(distribution.locate_file(top)))
            if not link.exists():
                link.symlink_to(target)
    return programs


@pytest.fixture(scope="module")
def core(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the core alone."""
    return make_environment(tmp_path_factory.mktemp("core") / "env", wheel_of(built), set())


@pytest.fixture(scope="module")
def with_cli(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the extra ``cli``."""
    return make_environment(tmp_path_factory.mktemp("cli") / "env", wheel_of(built), {"cli"})


def run(
    program: Path, *arguments: object, cwd: Path, **settings: str
) -> subprocess.CompletedProcess[str]:
    """A program from another folder, without our settings."""
    return subprocess.run(
        [program, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(cwd), "OMP_NUM_THREADS": "1", **settings},
    )  # fmt: skip


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    """Every file of the package, its recipes and pages, the licence; no tests and no caches."""
    with zipfile.ZipFile(wheel_of(built)) as wheel:
        names = set(wheel.namelist())
    source = ROOT / "src"
    package = {
        path.relative_to(source).as_posix()
        for path in (source / "rankreward").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == package
    assert {
        "rankreward/py.typed",
        "rankreward/recipes/dr_seg.yaml",
        "rankreward/report/page.css",
    } <= names
    rest = {name.partition(".dist-info/")[2] for name in names - package}
    assert rest == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


def test_the_metadata_say_what_pyproject_says(built: Path) -> None:
    """Name, licence, Python, the extras, and a description that is the README."""
    with zipfile.ZipFile(wheel_of(built)) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
        said = metadata.PathDistribution(zipfile.Path(wheel, f"{Path(name).parent}/")).metadata
        assert said is not None
    assert said["Name"] == "rankreward"
    assert said["License-Expression"] == "Apache-2.0"
    assert said["Requires-Python"] == ">=3.11"
    assert set(said.get_all("Provides-Extra") or ()) >= EXTRAS
    assert said["Description-Content-Type"] == "text/markdown"
    assert (said.get_payload() or "").strip() == (ROOT / "README.md").read_text().strip()


def test_the_source_archive_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    """It holds what the tests read, and a wheel made of it has the same files."""
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    for name in ("tests", "examples/digits", "docs", "benchmarks", "scripts"):
        assert {path.name for path in (ROOT / name).glob("*.py")} == {
            path.name for path in (source / name).glob("*.py")
        }
    for name in ("conftest.py", "Makefile", "constraints.txt", "README.md", "LICENSE"):
        assert (source / name).read_bytes() == (ROOT / name).read_bytes()
    assert not list(source.rglob("__pycache__"))
    build(source, tmp_path / "again")
    with (
        zipfile.ZipFile(wheel_of(built)) as ours,
        zipfile.ZipFile(wheel_of(tmp_path / "again")) as theirs,
    ):
        assert {
            each.filename: each.CRC for each in ours.infolist() if "RECORD" not in each.filename
        } == {
            each.filename: each.CRC for each in theirs.infolist() if "RECORD" not in each.filename
        }


def test_the_core_scores_without_any_extra(core: Path, tmp_path: Path) -> None:
    """From another folder, with NumPy, SciPy, Numba, pydantic and YAML alone."""
    code = (
        "import rankreward as rr, importlib.util as u\n"
        "print([n for n in ('torch', 'typer', 'rich', 'PIL', 'datasets', 'pytest') if u.find_spec(n)])\n"
        "scorer = rr.Scorer('dr_seg'); reference = '[{\"bbox_2d\": [1, 1, 9, 9], \"point_2d\": [5, 5]}]'\n"
        "batch = scorer.score([f'<think>a<look>b</look></think><answer>{reference}</answer>', 'x'], [reference] * 2)\n"
        "print(batch.total.tolist(), batch.failures[1].code, len(rr.recipes()))\n"
        "print(rr.__file__)"
    )
    done = run(core / "python", "-c", code, cwd=tmp_path)
    assert done.stderr == ""
    hidden, scored, where = done.stdout.splitlines()
    assert hidden == "[]"
    assert scored == "[5.0, 2.0] missing_tag 20"
    assert str(core.parent) in where


def test_the_command_names_its_extra(core: Path, tmp_path: Path) -> None:
    """Without typer it is one line that says what to install."""
    done = run(core / "rankreward", "recipes", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert NAMED.findall(done.stderr) == ["cli"]


def test_every_module_imports_or_names_its_extra(core: Path, tmp_path: Path) -> None:
    """Without any extra: what a module needs is said, and not by the name of a package alone."""
    code = (
        "import importlib, json, pkgutil, rankreward\n"
        "said = {}\n"
        "for module in pkgutil.walk_packages(rankreward.__path__, 'rankreward.', onerror=lambda name: None):\n"
        "    try:\n"
        "        importlib.import_module(module.name); said[module.name] = ''\n"
        "    except Exception as error:\n"
        "        said[module.name] = f'{type(error).__name__}: {error}'\n"
        "print(json.dumps(said))"
    )
    # Compiling every kernel takes 10 s, and makes no difference to what is imported.
    done = run(core / "python", "-c", code, cwd=tmp_path, NUMBA_DISABLE_JIT="1")
    said = json.loads(done.stdout)
    assert len(said) > 100
    loaded_by_pytest = "rankreward.testing.pytest_plugin"
    without = {
        name
        for name, error in said.items()
        if error and not re.match(r"MissingExtraError: .*: pip install \S+", error)
    }
    assert without <= {loaded_by_pytest}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small data."""
    folder = tmp_path_factory.mktemp("data")
    texts = [answer(scene) for scene in scenes(4, seed=0, split="eval")]
    lines = [json.dumps({"id": f"scene-{i}", "completion": text}) for i, text in enumerate(texts)]
    (folder / "answers.jsonl").write_text("\n".join(lines) + "\n")
    command = (
        "eval digits:4 --frame 84 --policy answers.jsonl --segmenter none --pictures 0 --out a"
    )
    assert call(*command.split(), cwd=folder).returncode == 0
    shutil.copytree(folder / "a", folder / "b")
    reference = '[{"bbox_2d": [1, 1, 9, 9], "point_2d": [5, 5]}]'
    rows = [
        {"step": step, "group": f"q{step}", "completion": text, "reference": reference}
        for step in range(3)
        for text in (f"<think>a</think><answer>{reference}</answer>", "no answer")
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "instances.json").write_text('{"images": [], "annotations": [], "categories": []}')
    (folder / "images").mkdir()
    (folder / "built").mkdir()
    (folder / "built" / "train-00000.parquet").touch()
    (folder / "built" / "train.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("--version", ""),
        ("recipes", ""),
        ("recipes sam_r1 --json", ""),
        ("paths", ""),
        ("eval summary a --json", ""),
        ("eval compare a b", ""),
        ("score log.jsonl --recipe dr_seg --out scored", ""),
        ("replay log.jsonl --recipes dr_seg vision_reasoner", ""),
        ("report scored --out page.html", ""),
        ("eval digits:4 --frame 84 --policy answers.jsonl --segmenter none --out c", "demo"),
        ("data build coco instances.json --images images --out d", "eval"),
        ("data inspect built", "eval"),
    ],
)
def test_every_command_works_or_names_its_extra(
    with_cli: Path, place: Path, command: str, extra: str
) -> None:
    """With the extra ``cli`` alone."""
    done = run(with_cli / "rankreward", *command.split(), cwd=place)
    if not extra:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert NAMED.findall(done.stderr) == [extra]


def test_every_help_works_with_cli_alone(with_cli: Path, tmp_path: Path) -> None:
    """Each command and group says what it does, though what it needs is not there."""
    code = (
        "from typer.main import get_command; from typer.testing import CliRunner\n"
        "from rankreward import cli\n"
        "def walk(path, command):\n"
        "    done = CliRunner().invoke(cli.app(), [*path, '--help'])\n"
        "    assert done.exit_code == 0 and 'Usage' in done.output, (path, done.output)\n"
        "    print(' '.join(path) or 'rankreward')\n"
        "    for name, each in getattr(command, 'commands', {}).items(): walk([*path, name], each)\n"
        "walk([], get_command(cli.app()))"
    )
    done = run(with_cli / "python", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"recipes", "data build coco", "eval compare", "score"} <= set(done.stdout.splitlines())
