"""`rankreward` as a whole: help that teaches, names that complete, pipes, JSON and exit codes."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
import typer
import yaml
from calling import call
from data_makers import coco, disc, write_json
from log_makers import rollouts, write_lines
from PIL import Image
from pyarrow import parquet
from typer.testing import CliRunner

import rankreward as rr
from policy import answer
from rankreward import bench, cli
from rankreward.cli.choices import PROTOCOL_NAMES
from rankreward.cli.terminal import show_json
from rankreward.datasets.digits import scenes
from rankreward.evaluation import PROTOCOLS
from rankreward.parsing import SCHEMAS

BASH = "/bin/bash"
PROGRAM = Path(sys.executable).with_name("rankreward")
HEAVY = ("numpy", "scipy", "numba", "pydantic", "yaml", "torch", "datasets", "matplotlib", "PIL")
ROOT = Path(__file__).parents[1]


def run(
    *arguments: Any, cwd: Path | None = None, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    return subprocess.run(
        [PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=cwd, **settings
    )  # fmt: skip


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group, with its path."""
    todo: list[tuple[tuple[str, ...], Any]] = [((), typer.main.get_command(cli.app()))]
    while todo:
        path, command = todo.pop(0)
        yield path, command
        todo += [((*path, name), each) for name, each in getattr(command, "commands", {}).items()]


COMMANDS = dict(commands())
LEAVES = [path for path, command in COMMANDS.items() if not hasattr(command, "commands")]


def help_of(path: tuple[str, ...]) -> str:
    done = CliRunner().invoke(cli.app(), [*path, "--help"], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done.stdout


def examples_of(text: str) -> list[str]:
    """The commands in a help text, those of several lines joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if line.strip().startswith("$ ")]


EXAMPLES = [
    (path, example) for path in LEAVES for example in examples_of(COMMANDS[path].epilog or "")
]


EVAL = "eval digits:20 --frame 84 --policy answers.jsonl --segmenter none"
STEPS = 4  # of the library's log


def good(arguments: str, cwd: Path) -> str:
    """A command that is to succeed; what it prints."""
    done = call(*shlex.split(arguments), cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small data under the names that the examples use."""
    folder = tmp_path_factory.mktemp("examples")
    write_json(folder / "instances.json", coco(folder / "images"))
    one = {"image_id": 1, "split": "train", "sentences": ["the cup"]}
    write_json(folder / "refs.json", [{"ref_id": 1, "ann_ids": [11], **one}])
    (folder / "masks").mkdir()
    for path in (folder / "images").iterdir():
        with Image.open(path) as image:
            mask = disc(image.height, image.width, image.height // 2, image.width // 2, 9)
        Image.fromarray(mask.astype("uint8")).save(folder / "masks" / f"{path.stem}.png")
    (folder / "mine.yaml").write_text(call("recipes", "dr_seg").stdout)
    texts = [answer(scene) for scene in scenes(20, seed=0, split="eval")]
    write_lines(
        folder / "answers.jsonl",
        [{"id": f"scene-{i}", "completion": text} for i, text in enumerate(texts)],
    )
    good("data build coco instances.json --images images --out data/train", folder)
    good(f"{EVAL} --out runs/mine --pictures 0", folder)
    for name in ("before", "after"):
        shutil.copytree(folder / "runs/mine", folder / "runs" / name)
    put_logs(folder)
    good("score rollouts.jsonl --recipe dr_seg --out runs/demo", folder)
    for name in ("a", "b"):
        shutil.copytree(folder / "runs/demo", folder / "runs" / name)
    return folder


def put_logs(folder: Path) -> None:
    """Logs of a few steps: a plain one, TRL's, one with other columns, and the library's own."""
    rows = rollouts(4)
    write_lines(folder / "rollouts.jsonl", rows)
    (folder / "runs/mine/completions").mkdir()
    names = ("prompt", "completion", "reference")
    for step, found in itertools.groupby(rows, lambda row: row["step"]):
        columns = [{"step": step, **{name: row[name] for name in names}} for row in found]
        path = folder / f"runs/mine/completions/completions_{step:05d}.parquet"
        parquet.write_table(pa.Table.from_pylist(columns), path)
    other = [{"step": r["step"], "text": r["completion"], "truth": r["reference"]} for r in rows]
    parquet.write_table(pa.Table.from_pylist(other), folder / "log.parquet")
    log = "examples/logs/digits.jsonl.gz"
    (folder / log).parent.mkdir(parents=True)
    with gzip.open(ROOT / log, "rt") as whole, gzip.open(folder / log, "wt") as cut:
        cut.writelines(itertools.takewhile(lambda line: json.loads(line)["step"] <= STEPS, whole))


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_help_teaches(path: tuple[str, ...]) -> None:
    """What it is for in one line, an example, what it writes, what the exit status means."""
    text = help_of(path)
    assert max(map(len, text.splitlines())) <= 80
    assert examples_of(text), "no example"
    assert "\n  Writes: " in text
    assert "Exit status: 0 done; 1 " in text
    short = COMMANDS[path].get_short_help_str(80)
    assert short
    assert not short.endswith("..."), "the list of commands would cut it"
    for parameter in COMMANDS[path].params:
        assert getattr(parameter, "help", None), parameter.name


@pytest.mark.parametrize(("path", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_every_example_runs(
    path: tuple[str, ...], example: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands in the help, but for the download, and less of the benchmark."""
    words = shlex.split(example)
    assert words.pop(0) == "rankreward"
    words, end = (words[:-2], words[-2:]) if ">" in words else (words, [])
    if "published" in words:
        words += ["--folder", published(place / "hub")]
    if path == ("bench",):
        words += ["--seconds", "0.1"]
        monkeypatch.setattr(bench, "CASES", (("rank", 1, 2048), ("flush", 128, 2048)))
    done = call(*words, cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    if end:
        (place / end[1]).write_text(done.stdout)


def published(folder: Path) -> str:
    """A published set with one row, as it is when it has been downloaded."""
    image = Image.fromarray(disc(840, 840, 400, 400, 50).astype("uint8") * 255).convert("RGB")
    solution = json.dumps([{"bbox_2d": [350, 350, 450, 450], "point_2d": [400, 400]}])
    row = {"id": "1", "problem": "the disc", "solution": solution, "image": image}
    made = datasets.Dataset.from_list([{**row, "img_height": 840, "img_width": 840}])
    folder.mkdir()
    made.cast_column("image", datasets.Image()).to_parquet(str(folder / "train-0.parquet"))
    return str(folder)


def test_help_loads_nothing_heavy() -> None:
    """Help and version come at once, and need no package beyond typer."""
    code = (
        "import sys; from rankreward import cli; cli.app()\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version() -> None:
    """The command says which release it is."""
    assert run("--version").stdout == f"rankreward {rr.__version__}\n"


def test_protocols_to_complete_are_those_there_are() -> None:
    """The names for help and completion, which load nothing, are not left behind."""
    assert tuple(PROTOCOLS) == PROTOCOL_NAMES


# --- completion -----------------------------------------------------------------------------------

COMPLETIONS = [
    ("rankreward rec", {"recipes"}),
    ("rankreward recipes dr", {"dr_seg", "dr_seg-released"}),
    ("rankreward paths ver", {"verl"}),
    ("rankreward paths --recipe seg_r", {"seg_r1"}),
    ("rankreward eval summary x --protocol li", {"lisa"}),
    ("rankreward score log.jsonl --recipe sam", {"sam_r1"}),
    ("rankreward replay log.jsonl --recipes sam", {"sam_r1"}),
    ("rankreward eval run digits:3 --segmenter g", {"grabcut"}),
    ("rankreward eval run digits:3 --recipe sam", {"sam_r1"}),
    ("rankreward data inspect data/train --split t", {"train"}),
    ("rankreward data build coco --for ver", {"verl"}),
]


@pytest.fixture(scope="module")
def completion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script for bash."""
    asked = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    path = tmp_path_factory.mktemp("completion") / "script.bash"
    path.write_text(run("--show-completion", "bash", env=asked).stdout)
    return path


@pytest.mark.parametrize(
    ("typed", "expected"), COMPLETIONS, ids=[typed for typed, _ in COMPLETIONS]
)
def test_bash_completes(typed: str, expected: set[str], place: Path, completion: Path) -> None:
    """In a real bash with the script that the command prints, by bash's own protocol."""
    script = f"""
        source "{completion}"
        complete -p rankreward > /dev/null || exit 9
        COMP_WORDS=({typed}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)) COMP_LINE="{typed}"
        function=$(complete -p rankreward | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $function {PROGRAM}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        [BASH, "--norc", "-c", script], capture_output=True, text=True, check=False, cwd=place
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script(shell: str) -> None:
    """And what it asks the command for is answered."""
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert "rankreward" in run("--show-completion", shell, env=environment).stdout
    line = "rankreward recipes dpa"
    asked = {
        "_RANKREWARD_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TYPER_COMPLETE_WORD_TO_COMPLETE": "dpa",
    }  # fmt: skip
    done = run(env={**os.environ, **asked})
    assert {"dpad", "dpad-released"} <= set(done.stdout.replace('"', " ").split()), done


# --- recipes --------------------------------------------------------------------------------------


def test_recipes_are_listed_printed_and_checked(tmp_path: Path) -> None:
    """A line each with what it needs; its YAML as it ships; a file with what is wrong in it."""
    lines = call("recipes").stdout.splitlines()
    for name in rr.recipes():
        (line,) = [line for line in lines if line.split()[1:2] == [name]]
        assert rr.Recipe.load(name).source in line, "cut short"
    assert "images, a segmenter" in next(line for line in lines if " sam_r1 " in line)
    text = call("recipes", "seg_zero").stdout
    assert yaml.safe_load(text)["name"] == "seg_zero"
    mine = tmp_path / "mine.yaml"
    mine.write_text(text)
    assert call("recipes", mine).stdout.startswith(f"{mine}: a recipe, 'seg_zero'; beside")
    mine.write_text(text.replace("terms:", "termz:"))
    done = call("recipes", mine)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr == f"rankreward: {mine}: unknown key 'termz': did you mean 'terms'?\n"
    assert "did you mean 'dr_seg'" in call("recipes", "dr_sge").stderr


@pytest.mark.filterwarnings("ignore:references")  # what released code reads otherwise
def test_what_a_recipe_needs_is_what_a_scorer_asks_for() -> None:
    """A recipe that is said to need nothing scores texts alone, and no other does."""
    table = json.loads(call("recipes", "--json").stdout)["recipes"]
    assert [row["name"] for row in table] == list(rr.recipes())
    references = {
        "list": '[{"bbox_2d": [1, 1, 9, 9], "point_2d": [5, 5], "point_1": [5, 5], "point_2": [5, 5], "label": "a"}]',
        "object": '{"bbox": [1, 1, 9, 9], "points_1": [5, 5], "points_2": [5, 5]}',
        "text": "a", "tags": "",
    }  # fmt: skip
    for row in table:
        reference = references[SCHEMAS[row["answer"]].form]
        try:
            rr.Scorer(row["name"]).score(["x", "y"], [reference] * 2)
            scores = True
        except (rr.ConfigError, rr.InputError, rr.MissingExtraError):
            scores = False
        assert scores == (not row["needs"]), row


# --- JSON -----------------------------------------------------------------------------------------


def only_json(text: str) -> Any:
    """The one document that a text is; JSON knows no NaN."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


@pytest.mark.parametrize(
    "arguments",
    [
        "recipes --json",
        "recipes dpad --json",
        "paths --json",
        "bench --seconds 0.1 --json -",
        "data inspect data/train --out pictures --json",
        "data build coco instances.json --images images --out data/json --json",
        "data multi-object instances.json --images images --out data/mo --json",
        f"{EVAL} --out runs/before --pictures 2 --json",
        f"{EVAL} --out runs/k --shard 0/2 --json",
        "eval summary runs/mine --json",
        "eval compare runs/before runs/after --json",
        "score rollouts.jsonl --recipe dr_seg --json",
        "replay rollouts.jsonl --recipes dr_seg vision_reasoner --json",
        "report runs/demo --json",
    ],
)
def test_json_is_all_that_is_printed(arguments: str, place: Path) -> None:
    """One document on standard output, and nothing else there."""
    assert only_json(good(arguments, place))


def test_what_is_no_number_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has neither NaN nor infinity; NumPy's numbers are numbers."""
    show_json({"a": [float("nan"), np.float64("inf"), np.int64(3)], "b": np.array([1.0, np.nan])})
    assert only_json(capsys.readouterr().out) == {"a": [None, None, 3], "b": [1.0, None]}


# --- exit codes and pipes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("", 2),
        ("bnech", 2),
        ("data", 2),
        ("data build", 2),
        ("eval", 2),
        ("recipes --jsn", 2),
        ("recipes dr_seg seg_zero", 2),
        ("bench --seconds 0", 2),
        ("bench --seconds inf", 2),
        ("bench --seconds nan", 2),
        ("data build coco instances.json --images images --out o --points 3", 2),
        ("data build coco instances.json --images images --out o --for trx", 2),
        ("data multi-object instances.json --images images --out o --min-share inf", 2),
        ("eval digits:20 --policy answers.jsonl --out o --temperature inf", 2),
        ("eval digits:20 --policy answers.jsonl", 2),
        ("eval compare runs/before", 2),
        ("eval summary runs/mine --format xml", 2),
        ("score rollouts.jsonl", 2),
        ("score rollouts.jsonl --recipe dr_seg --rows-per-step 0", 2),
        ("replay rollouts.jsonl --recipes dr_seg seg_zero --keep -1", 2),
        ("report", 2),
        ("paths trx", 1),
        ("paths verl --recipe nothing", 1),
        ("bench --json no/such/folder.json", 1),
        ("bench --json images", 1),
        ("score nowhere --recipe dr_seg", 1),
        ("score rollouts.jsonl --recipe nothing", 1),
        ("replay nowhere --recipes dr_seg vision_reasoner", 1),
        ("replay rollouts.jsonl --recipes dr_seg nothing", 1),
        ("report nowhere", 1),
        ("data build coco nowhere.json --images images --out o", 1),
        ("data build coco instances.json --images nowhere --out o", 1),
        ("data build coco instances.json --images refs.json --out o", 1),
        ("data build expressions refs.json --instances nowhere --images images --out o", 1),
        ("data build folder nowhere --out o", 1),
        ("data build folder images --masks nowhere --out o", 1),
        ("data build folder images --masks masks --queries nowhere --out o", 1),
        ("data build published nothing --out o", 1),
        ("data build published visionreasoner_7k --folder nowhere --out o", 1),
        ("data multi-object nowhere --images images --out o", 1),
        ("data multi-object instances.json --images images --panoptic nowhere --out o", 1),
        ("data inspect nowhere", 1),
        ("eval summary nowhere", 1),
        ("eval summary runs/mine nowhere", 1),
        ("eval compare runs/before nowhere", 1),
        ("eval digits:10001 --policy answers.jsonl --out o", 1),
        ("eval digits:99999999999999 --policy answers.jsonl --out o", 1),
        ("recipes nothing", 1),
        ("recipes nowhere.yaml", 1),
        ("eval nowhere --policy answers.jsonl --out o", 1),
        ("eval digits:20 --policy nowhere.jsonl --segmenter none --out o", 1),
        (f"{EVAL} --out instances.json/x", 1),
        ("data build coco instances.json --images images --out instances.json/x", 1),
        ("data build coco refs.json --images images --out o2", 1),
        ("data inspect images", 1),
        ("eval summary images", 1),
    ],
)  # fmt: skip
def test_exit_codes(arguments: str, code: int, place: Path) -> None:
    """2 where the command line alone is wrong, 1 where what it names is, which takes one line."""
    done = call(*arguments.split(), cwd=place)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert done.stdout == ""
        assert done.stderr.splitlines()[-1].startswith("rankreward: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("arguments", "code"), [("recipes --jsn", 2), ("recipes nothing", 1)])
def test_a_process_ends_like_a_call(arguments: str, code: int) -> None:
    """The other tests of exit codes make no process: it would say and return the same."""
    done, called = run(*arguments.split()), call(*arguments.split())
    assert done.returncode == called.returncode == code
    assert (done.stdout, done.stderr) == (called.stdout, called.stderr)


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    """It is not made to look like wrong input."""
    code = (
        "import sys; sys.argv = ['rankreward', 'recipes']\n"
        "import rankreward.recipe as recipe; recipe.recipes = lambda: 1 / 0\n"
        "from rankreward.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize("arguments", ["recipes", "recipes dr_seg", "recipes --json", "--help"])
def test_a_reader_that_stops_early_is_no_fault(arguments: str) -> None:
    """`rankreward recipes | head -1` says nothing of a broken pipe, whenever the pipe breaks."""
    for reader in ("head -1", "true"):
        done = subprocess.run(
            [BASH, "-c", f"set -o pipefail; {PROGRAM} {arguments} | {reader}; test $? != 120"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", ["recipes", "recipes dr_seg", "paths --json", "--version"])
def test_a_full_disk_is_one_line(arguments: str) -> None:
    """What was printed cannot be written, and the exit status says so."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [PROGRAM, *arguments.split()], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("rankreward: ")
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams_are_no_traceback(closed: str) -> None:
    """A command whose output is closed still ends as it should."""
    done = subprocess.run(
        [BASH, "-c", f"{PROGRAM} recipes {closed}"], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_tables_in_pipes_are_whole(place: Path) -> None:
    """No control characters, no name or figure cut at 80 columns, whatever the terminal was."""
    for columns, arguments in itertools.product(
        (40, 80),
        ("recipes", "eval summary runs/mine --ap area", "eval compare runs/before runs/after"),
    ):
        done = call(*arguments.split(), cwd=place, columns=columns)
        assert done.stdout
        assert "\x1b" not in done.stdout
        assert "\u2026" not in done.stdout
    assert run("recipes", env={**os.environ, "COLUMNS": "40"}).stdout == call("recipes").stdout
    names = {
        row["measure"] for row in only_json(good("eval summary runs/mine --json", place))["rows"]
    }
    table = good("eval summary runs/mine", place)
    assert all(any(name in line for line in table.splitlines()) for name in names)


def test_progress_is_for_terminals(place: Path) -> None:
    """In a pipe standard error stays empty, unless there is something to say."""
    arguments = "data build coco instances.json --images images --out data/quiet"
    assert call(*arguments.split(), cwd=place).stderr == ""


def test_no_color_is_kept_to(place: Path) -> None:
    """On a terminal too, where a table has bold type and no colour otherwise."""
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    for command, word, environment in (
        ("recipes", b"vision_reasoner", {"NO_COLOR": "1"}),
        ("eval summary runs/mine", b"mean box IoU", {}),
    ):
        script = f"import pty; pty.spawn({[str(PROGRAM), *command.split()]})"
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, check=True, cwd=place,
            env={**kept, "TERM": "xterm-256color", "COLUMNS": "200", **environment},
        )  # fmt: skip
        assert word in done.stdout
        assert b"\x1b[1m" in done.stdout, "not a terminal"
        assert not re.search(rb"\x1b\[[0-9;]*[34][0-9]", done.stdout)


def test_a_module_of_the_users_is_imported_first(tmp_path: Path) -> None:
    """With --import a recipe may name terms of the user's; a module that is not there is named."""
    (tmp_path / "my_terms.py").write_text(
        "import rankreward as rr\n\n"
        "@rr.term('short_enough')\n"
        "def short_enough(sample, *, limit=99):\n"
        "    return float(len(sample.text) <= limit)\n"
    )
    recipe = rr.Recipe.load("dr_seg").to_dict()
    recipe |= {
        "name": "mine",
        "terms": {**recipe["terms"], "short": {"kind": "short_enough", "weight": 1}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))

    plain = run("recipes", "mine.yaml", cwd=tmp_path)
    assert plain.returncode == 1
    assert "one of your own has to be registered first, by an import" in plain.stderr
    done = run("--import", "my_terms", "recipes", "mine.yaml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    absent = run("--import", "other_terms", "recipes", cwd=tmp_path)
    assert absent.returncode == 1
    assert "such as my_terms for my_terms.py, got 'other_terms'" in absent.stderr
