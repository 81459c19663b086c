"""The examples: the rows that trainers read, what is checked before training, and TRL's script."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import importlib.util
import inspect
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import datasets
import huggingface_hub
import pytest
import torch
import yaml
from accelerate.commands.config import load_config_from_file
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainingArguments

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES / "grounding"))

import digit_rows  # noqa: E402 - after the path to it
import hub  # noqa: E402
import layouts  # noqa: E402
import rows as rows_module  # noqa: E402
import which_verl  # noqa: E402

import rankreward as rr  # noqa: E402
from rankreward.adapters.easyr1 import compute_score  # noqa: E402
from rankreward.datasets.layouts import features, to_easyr1  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore::Warning:(trl|transformers|torch|accelerate|peft|datasets|huggingface_hub).*"
)
RECIPE = rr.Recipe.load("dr_seg").resized(84)


def script(folder: str, name: str) -> ModuleType:
    """A script of the examples as a module."""
    path = EXAMPLES / folder / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{folder}_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module
    spec.loader.exec_module(module)
    return module


train = script("trl", "train")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stamps, caches and runs go to the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for name in ("LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def source(tmp_path: Path) -> rows_module.Source:
    return digit_rows.tiny_source(tmp_path / "tiny")


def made(**changes: Any) -> dict[str, Any]:
    """A row of the Seg-Zero family."""
    image = io.BytesIO()
    Image.new("RGB", (84, 84)).save(image, "PNG")
    row = {
        "id": "a1",
        "problem": "the cup",
        "solution": '[{"bbox_2d": [1, 2, 30, 40], "point_2d": [9, 9]}]',
        "image": {"bytes": image.getvalue(), "path": None},
        "img_height": 84,
        "img_width": 84,
    }
    return {**row, **changes}


def dataset(*items: dict[str, Any]) -> datasets.Dataset:
    made_of = datasets.Dataset.from_list(list(items), features=digit_rows.FEATURES)
    return made_of.cast_column("image", datasets.Image(decode=False))


# Data


def test_digit_rows_pass_the_checks_of_the_large_data(source: rows_module.Source) -> None:
    """Tiny data have the layout of the large, and pass every check of it."""
    rows = rows_module.read(source.folder())
    assert rows.column_names == list(rows_module.COLUMNS)
    assert len(rows) == 24


def test_data_that_cannot_be_trained_on_are_refused_by_row() -> None:
    """Too few rows, an image of another size or none, a reference that cannot be read: each named."""
    good = made()
    small, text = io.BytesIO(), '[{"bbox_2d": [1, 2, 30]}]'
    Image.new("RGB", (84, 42)).save(small, "PNG")
    cases = [
        (dataset(good), 2, "at least 2 rows, got 1"),
        (dataset(good, made(id="b", solution=text)), 1, r"row 1 \(id b\): references\[0\]"),
        (
            dataset(good, made(id="c", image={"bytes": small.getvalue(), "path": None})),
            1,
            r"row 1 \(id c\): expected an image of 84 x 84.*84 x 42",
        ),
        (dataset(made(image={"bytes": b"no", "path": None})), 1, r"row 0 \(id a1\): no readable"),
    ]
    for rows, least, message in cases:
        with pytest.raises(ValueError, match=message):
            rows_module.check(rows, RECIPE, least)
    rows_module.check(dataset(good), RECIPE, 1)


def test_a_folder_without_the_columns_is_refused(tmp_path: Path) -> None:
    """No Parquet file, and a file without a column, are said so."""
    with pytest.raises(FileNotFoundError, match="expected Parquet files"):
        rows_module.read(tmp_path)
    dataset(made()).remove_columns("solution").to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="lacks solution"):
        rows_module.read(tmp_path)


def test_the_split_is_disjoint_whole_and_the_seeds_own() -> None:
    """Every row is in one part; the same seed gives the same parts, another one others."""
    rows = datasets.Dataset.from_dict({"id": list(range(50))})
    train_part, val = rows_module.split(rows, 7, seed=3)
    assert len(val) == 7
    assert sorted([*train_part["id"], *val["id"]]) == list(range(50))
    assert rows_module.split(rows, 7, seed=3)[1]["id"] == val["id"]
    assert rows_module.split(rows, 7, seed=4)[1]["id"] != val["id"]
    for wrong in (0, 50):
        with pytest.raises(ValueError, match="held_out"):
            rows_module.split(rows, wrong, seed=0)


def test_a_stamp_is_left_by_a_check_that_passed_and_only_for_those_files(tmp_path: Path) -> None:
    """A failed check runs again; one that passed does not, until a file changes."""
    (tmp_path / "a").write_text("1")
    calls: list[int] = []

    def fails() -> None:
        calls.append(0)
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError):  # noqa: PT011 - its own
            hub.once(tmp_path / "a" / "..", fails)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a").write_text("1")
    for _ in range(2):
        hub.once(folder, lambda: calls.append(1), least=5)
    assert calls == [0, 0, 1]
    hub.once(folder, lambda: calls.append(2), least=6)
    (folder / "a").write_text("12")
    hub.once(folder, lambda: calls.append(3), least=5)
    assert calls == [0, 0, 1, 2, 3]


# Layouts


def test_trl_rows_are_conversations_with_decoded_images(source: rows_module.Source) -> None:
    """TRL's rows have its three columns, the image of the very row, and one split in two."""
    train_rows, val = layouts.trl_rows(source)
    assert sorted(train_rows.column_names) == ["image", "prompt", "solution"]
    assert (len(train_rows), len(val)) == (20, 4)
    plain = {row["solution"]: row for row in rows_module.read(source.folder())}
    for row in val:
        origin = plain[row["solution"]]
        assert row["image"].tobytes() == Image.open(io.BytesIO(origin["image"]["bytes"])).tobytes()
        assert row["prompt"] == [{"role": "user", "content": rr.prompt(RECIPE, origin["problem"])}]


@pytest.mark.parametrize("layout", ["verl", "easyr1"])
def test_parquet_is_made_once_and_again_when_its_origin_changes(
    source: rows_module.Source, tmp_path: Path, layout: str
) -> None:
    """Whole files are used again; another seed makes others; what is read back is what was meant."""
    files = layouts.parquet(source, layout, tmp_path / layout)
    times = [file.stat().st_mtime_ns for file in files]
    assert layouts.parquet(source, layout, tmp_path / layout) == files
    assert [file.stat().st_mtime_ns for file in files] == times
    loaded = datasets.load_dataset("parquet", data_files=str(files[1]), split="train")
    assert len(loaded) == 4
    assert loaded[0]["images"][0].size == (84, 84)
    layouts.parquet(dataclasses.replace(source, seed=1), layout, tmp_path / layout)
    assert all(file.stat().st_mtime_ns > time for file, time in zip(files, times, strict=True))


def test_a_broken_off_write_leaves_nothing(tmp_path: Path) -> None:
    """An error in the middle leaves neither a file nor half of one."""

    def stops() -> Iterator[dict[str, Any]]:
        yield from (to_easyr1(made(), RECIPE, split="train") for _ in range(99))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        layouts.write(stops(), tmp_path / "out" / "t.parquet", features("easyr1"), "", total=100)
    assert list((tmp_path / "out").iterdir()) == []


# Download


def shards(folder: Path) -> Path:
    """The tiny policy in two shards with an index, as a large model is kept."""
    folder.mkdir()
    for file in digit_rows.START.iterdir():
        if file.name != "model.safetensors":
            shutil.copy(file, folder)
    (folder / "preprocessor_config.json").write_text("{}")
    tensors = load_file(digit_rows.START / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file_name, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file_name, {"format": "pt"})
    index = {
        "metadata": {},
        "weight_map": {name: file for file, part in parts.items() for name in part},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def test_a_whole_model_passes(tmp_path: Path) -> None:
    """The tiny policy passes in one file, and in shards with an index."""
    assert hub.model_folder(str(digit_rows.START), processor=False) == digit_rows.START
    hub.check_model(shards(tmp_path / "model"))


def test_what_a_model_lacks_is_named(tmp_path: Path) -> None:
    """A missing shard, one cut short, a missing tensor, file or kind: each is said."""
    model = shards(tmp_path / "model")
    second = model / "model-2.safetensors"
    whole = second.read_bytes()

    second.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match=r"model-2\.safetensors: broken or cut short"):
        hub.check_model(model)
    save_file({"a": torch.zeros(1)}, second)
    with pytest.raises(ValueError, match=r"model-2\.safetensors: lacks 5\d tensors"):
        hub.check_model(model)
    second.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks model-2\.safetensors"):
        hub.check_model(model)
    second.write_bytes(whole)
    hub.check_model(model)

    (model / "preprocessor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match="preprocessor_config"):
        hub.check_model(model)
    hub.check_model(model, processor=False)
    (model / "config.json").write_text('{"model_type": "qwen3_vl"}')
    with pytest.raises(ValueError, match=r"expected config\.json with model_type 'qwen2_5_vl'"):
        hub.check_model(model, processor=False)


@pytest.mark.parametrize(("name", "kind"), [(hub.MODEL, "model"), (hub.DATA, "dataset")])
def test_offline_says_what_to_download_and_where_to_put_it(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The message has the command with name and revision, and the option that takes the folder."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(FileNotFoundError) as caught:
        hub.folder(name, kind)
    told = str(caught.value)
    assert f"hf download {name} --repo-type {kind} --revision {hub.REVISIONS[name]}" in told
    assert ("--model models/" if kind == "model" else "--data data/") in told


def test_a_folder_that_is_not_there_is_no_name(tmp_path: Path) -> None:
    """A path is never asked of the Hub."""
    for name in (str(tmp_path / "no"), "./no", "~/no/such", "a/b/c"):
        with pytest.raises(FileNotFoundError, match="expected a folder"):
            hub.folder(name, "model")


class FakeHub(http.server.BaseHTTPRequestHandler):
    """A Hub with one data set of two files; the second one's transfer breaks off once."""

    files: ClassVar = {"data/a.parquet": b"a" * 1000, "data/b.parquet": b"b" * 5000}
    commit = "f" * 40
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, *, body: bool = True) -> None:
        self.asked.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
        if "/resolve/" in self.path:
            self.send(self.files[self.path.partition(f"/{self.commit}/")[2]], body=body)
        else:
            tree = [
                {"type": "file", "path": path, "size": len(data), "oid": path}
                for path, data in self.files.items()
            ]
            named = [{"rfilename": path} for path in self.files]
            about = {"id": "me/rows", "sha": self.commit, "siblings": named}
            self.send(json.dumps(tree if "/tree/" in self.path else about).encode(), body=body)

    def send(self, data: bytes, *, body: bool) -> None:
        start = int(self.headers.get("Range", "bytes=0-")[len("bytes=") :].partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", f'"{len(data)}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.end_headers()
        if body:
            self.wfile.write(data[start:])

    def log_message(self, *_: Any) -> None:
        pass


def test_a_name_is_downloaded_at_its_revision_and_gone_on_with(tmp_path: Path) -> None:
    """From a Hub on this machine: the pinned revision is asked for, and what is there is kept."""
    FakeHub.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = (
        f"import sys; sys.path.insert(0, {str(EXAMPLES / 'grounding')!r}); import hub; "
        f"print(hub.folder('me/rows', 'dataset', {FakeHub.commit!r}))"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }

    def run() -> Path:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.splitlines()[-1])

    try:
        folder = run()
        for path, data in FakeHub.files.items():
            assert (folder / path).read_bytes() == data
        assert any(FakeHub.commit in each for each in FakeHub.asked)
        (folder / "data/b.parquet").resolve().unlink()  # as if it had never arrived
        (folder / "data/b.parquet").unlink()
        FakeHub.asked.clear()
        assert (run() / "data/b.parquet").read_bytes() == FakeHub.files["data/b.parquet"]
        fetched = [each for each in FakeHub.asked if each.startswith("GET") and "/resolve/" in each]
        assert all(each.endswith("b.parquet") for each in fetched)
        assert len(fetched) == 1
    finally:
        server.shutdown()
        server.server_close()


# TRL


def on(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingArguments, "world_size", property(lambda self: processes))


def configured(name: str, *arguments: str) -> Any:
    return train.parse(["--config", str(EXAMPLES / "trl" / name), "--use_cpu=True", *arguments])


@pytest.mark.parametrize(("name", "processes"), [("full.yaml", 4), ("lora.yaml", 1)])
def test_a_step_generates_once_the_papers_128_rollouts(
    name: str, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the stated number of GPUs TRL's own config makes one generation of 16 x 8 a step."""
    on(processes, monkeypatch)
    options, config = configured(name)
    train.check_batch(options, config)
    assert config.generation_batch_size == 128
    assert config.num_generations == 8
    assert config.steps_per_generation == config.gradient_accumulation_steps
    assert (
        config.per_device_train_batch_size * processes * config.gradient_accumulation_steps == 128
    )


def test_another_number_of_gpus_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """On two GPUs in place of four a step would have half its prompts; the error says what to set."""
    on(2, monkeypatch)
    with pytest.raises(ValueError, match="set gradient_accumulation_steps to 32"):
        train.check_batch(*configured("full.yaml"))
    train.check_batch(*configured("full.yaml", "--gradient_accumulation_steps=32"))
    half = ["--gradient_accumulation_steps=32", "--steps_per_generation=16"]
    with pytest.raises(ValueError, match="one generation of 128 rollouts a step"):
        train.check_batch(*configured("full.yaml", *half))


@pytest.mark.parametrize("name", ["full.yaml", "lora.yaml"])
def test_the_settings_are_the_papers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that the paper states stands in the file; LoRA alone has another rate."""
    on(4 if name == "full.yaml" else 1, monkeypatch)
    options, config = configured(name)
    assert (options.recipe, options.max_prompt_length) == ("dr_seg", 1300)
    assert (options.min_pixels, options.max_pixels) == (3136, 12845056)
    assert (config.weight_decay, config.beta, config.temperature) == (0.01, 0.01, 1.0)
    assert (config.max_grad_norm, config.max_completion_length) == (1.0, 3000)
    assert (config.max_steps, config.save_steps, config.eval_steps) == (500, 50, 50)
    assert (config.seed, config.bf16, config.gradient_checkpointing) == (42, True, True)
    assert (config.loss_type, config.scale_rewards) == ("grpo", "group")
    assert config.learning_rate == (1e-6 if name == "full.yaml" else 1e-5)
    assert options.lora_r == (0 if name == "full.yaml" else 64)


def test_a_typo_is_an_error(tmp_path: Path) -> None:
    """An option that nobody knows is refused, in the file and on the command line."""
    text = (EXAMPLES / "trl" / "full.yaml").read_text()
    (tmp_path / "bad.yaml").write_text(text.replace("beta:", "betta:"))
    with pytest.raises(ValueError, match="--betta"):
        train.parse(["--config", str(tmp_path / "bad.yaml"), "--use_cpu=True"])
    with pytest.raises(ValueError, match="--betta"):
        configured("full.yaml", "--betta=1")


def test_accelerate_reads_its_file() -> None:
    """accelerate knows every key of zero3.yaml, and finds four processes and stage 3 in it."""
    config = load_config_from_file(str(EXAMPLES / "trl" / "zero3.yaml"))
    assert (config.num_processes, config.mixed_precision) == (4, "bf16")
    assert config.deepspeed_config["zero_stage"] == 3


class Weights(TrainerCallback):
    """Copies of what a training run begins with."""

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **_: Any
    ) -> None:
        self.step = state.global_step
        self.begun = {name: value.detach().clone() for name, value in model.named_parameters()}


def resumed(name: str) -> tuple[Any, Weights]:
    """Three steps, then a second start from the checkpoint of the second; as `main` does."""
    arguments = ["--config", str(EXAMPLES / "trl" / name), "--tiny", "--learning_rate=1e-3"]
    first = train.main([*arguments, "--disable_tqdm=True"])
    shutil.rmtree(Path(first.args.output_dir) / "checkpoint-3")
    options, config = train.parse([*arguments, "--resume", "--disable_tqdm=True"])
    trainer, seen = train.build(options, config), Weights()
    checkpoint = train.last_checkpoint(config)
    train.restore_weights(trainer.model, checkpoint)
    trainer.add_callback(seen)
    trainer.train(resume_from_checkpoint=str(checkpoint))
    return trainer, seen


def test_trl_trains_and_goes_on_with_the_weights_of_the_checkpoint() -> None:
    """Three steps with evaluation; a resumed run has the checkpoint's weights, step and window, and
    the start as its reference."""
    trainer, seen = resumed("full.yaml")
    assert seen.step == 2
    output = Path(trainer.args.output_dir)
    saved = type(trainer.model).from_pretrained(output / "checkpoint-2")
    start = type(trainer.model).from_pretrained(digit_rows.START, dtype=torch.float32)
    parameters = zip(saved.parameters(), start.parameters(), seen.begun.values(), strict=True)
    moved = 0
    for then, before, begun in parameters:
        assert torch.equal(then, begun)
        moved += not torch.equal(then, before)
    assert moved > 50  # or the checkpoint could be the start
    reference = trainer.ref_model.state_dict()
    assert all(torch.equal(value, reference[name]) for name, value in start.state_dict().items())
    log = trainer.state.log_history
    assert any("eval_rankreward/raw/iou" in entry for entry in log)
    assert [entry["step"] for entry in log if "reward" in entry] == [1, 2, 3]
    assert trainer.reward_funcs[0].scorer.quantiles.step == 3
    assert (output / "final" / "model.safetensors").exists()


def test_trl_trains_adapters_and_goes_on_with_them() -> None:
    """LoRA trains the language model's linear layers alone, and a resumed run has its adapters."""
    trainer, seen = resumed("lora.yaml")
    trained = [name for name, value in trainer.model.named_parameters() if value.requires_grad]
    assert len(trained) == 4 * 7 * 2  # layers, linear layers in each, two matrices for each
    assert all("language_model" in name and "lora_" in name for name in trained)
    saved = load_file(Path(trainer.args.output_dir) / "checkpoint-2" / "adapter_model.safetensors")
    begun = {
        name.replace(".default", ""): value for name, value in seen.begun.items() if "lora_" in name
    }
    assert begun.keys() == saved.keys()
    assert all(torch.equal(begun[name], saved[name]) for name in saved)
    assert any(saved[name].abs().sum() > 0 for name in saved if "lora_B" in name)


def test_weights_are_kept_where_small_steps_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen weights are bfloat16 beside adapters; weights that are trained are float32."""
    for name, dtype in (("full.yaml", torch.float32), ("lora.yaml", torch.bfloat16)):
        on(4 if name == "full.yaml" else 1, monkeypatch)
        options, config = configured(name)
        assert train.load_model(digit_rows.START, options, config).dtype == dtype


@pytest.mark.parametrize(("there", "expected"), [(True, ["tensorboard"]), (False, [])])
def test_tensorboard_is_used_where_it_is_installed(
    there: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorBoard by default where it is; another tracker by flag."""
    monkeypatch.setattr(train.importlib.util, "find_spec", lambda name: "found" if there else None)
    assert configured("lora.yaml")[1].report_to == expected
    assert configured("lora.yaml", "--report_to=wandb")[1].report_to == ["wandb"]


def test_the_large_runs_lines_take_folders_of_ones_own(
    source: rows_module.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --tiny a model in shards and data in a folder are checked, loaded and put together;
    only Qwen's processor, which needs torchvision, is the tiny policy's here."""
    monkeypatch.setattr(train, "Source", functools.partial(rows_module.Source, least=24))
    monkeypatch.setattr(
        train, "load_processor", lambda *_: digit_rows.tiny_policy().load(digit_rows.START)[1]
    )
    options, config = configured(
        "full.yaml",
        f"--model={shards(tmp_path / 'model')}",
        f"--data={source.data}",
        f"--recipe={source.recipe}",
        "--bf16=False",
        "--held_out=4",
        "--gradient_accumulation_steps=64",
    )
    train.check_batch(options, config)
    trainer = train.build(options, config)
    assert (len(trainer.train_dataset), len(trainer.eval_dataset)) == (20, 4)
    assert trainer.ref_model is not None
    start = load_file(digit_rows.START / "model.safetensors")["model.norm.weight"]
    assert torch.equal(trainer.model.model.language_model.norm.weight, start.float())


def test_no_checkpoint_to_resume_from_is_said(tmp_path: Path) -> None:
    """--resume without a checkpoint is an error, and not a new run."""
    _, config = configured("full.yaml", f"--output_dir={tmp_path}", "--tiny")
    with pytest.raises(FileNotFoundError, match="--resume: expected a checkpoint"):
        train.last_checkpoint(config)


def test_prompts_too_long_are_left_out() -> None:
    """A prompt is counted with its image's tokens; a limit that leaves none is an error."""
    processor = digit_rows.tiny_policy().load()[1]
    texts = ["the cup", "the cup " * 50]
    rows = datasets.Dataset.from_dict({"prompt": [[{"role": "user", "content": t}] for t in texts]})
    turn = [{"type": "image"}, {"type": "text", "text": texts[0]}]
    rendered = processor.apply_chat_template(
        [{"role": "user", "content": turn}], tokenize=False, add_generation_prompt=True
    )
    image = Image.new("RGB", (84, 84))
    short = len(processor(text=[rendered], images=[image])["input_ids"][0])
    kept = train.short_enough(rows, processor, RECIPE, short)
    assert len(kept) == 1
    with pytest.raises(ValueError, match=f"the shortest is {short}"):
        train.short_enough(rows, processor, RECIPE, short - 1)


def test_a_processor_without_torchvision_is_refused(tmp_path: Path) -> None:
    """Where Qwen's processor cannot be made, the error names the package that it wants."""
    if importlib.util.find_spec("torchvision") is not None:
        pytest.skip("torchvision is here")
    shutil.copytree(digit_rows.START, tmp_path / "model")
    kind = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
    }
    (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps(kind))
    with pytest.raises(ImportError, match=r"(?i)torchvision"):
        train.load_processor(tmp_path / "model", train.Grounding())


def test_yaml_files_name_each_option_once() -> None:
    """A key that stood twice would keep its last value in silence."""
    for file in sorted(EXAMPLES.glob("*/*.yaml")):
        keys = [
            line.partition(":")[0] for line in file.read_text().splitlines() if line[:1].isalpha()
        ]
        assert len(keys) == len(set(keys)), file
        assert yaml.safe_load(file.read_text())


# How much of a step the reward takes


def test_the_rewards_share_is_measured_on_a_tiny_policy() -> None:
    """A step takes longer than the reward in it, and the answers scored are real ones."""
    share = script("trl", "step_share")
    result = share.main(["--tiny", "--steps", "1", "--prompts", "1"])
    assert result["rollouts a step"] == 8
    assert 0 < result["seconds in the reward"] < result["seconds a step"]
    assert result["percent"] == pytest.approx(
        100 * result["seconds in the reward"] / result["seconds a step"]
    )


@pytest.mark.parametrize(("width", "count"), [("7B", 8_292_166_656), ("3B", 3_754_622_976)])
def test_the_shapes_are_the_published_ones(width: str, count: int) -> None:
    """A model of each width has as many parameters as the released one."""
    share = script("trl", "step_share")
    config = share.shape(width, None, digit_rows.tiny_policy().load()[1].tokenizer)
    with torch.device("meta"):
        model = share.Qwen2_5_VLForConditionalGeneration(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_the_rewards_share_is_measured_with_answers_worth_scoring() -> None:
    """The answers put in place of noise parse, and are near their references but not on them."""
    share = script("trl", "step_share")
    recipe = rr.Recipe.load("dr_seg")
    references = ['[{"bbox_2d": [100, 100, 300, 300], "point_2d": [200, 200]}]'] * 20
    texts = share.answers(references, share.np.random.default_rng(0), recipe)
    batch = rr.Scorer(recipe).score(texts, references)
    assert all(failure is None for failure in batch.failures)
    assert 0.8 < batch.raw["iou"].mean() < 1.0
    assert batch.raw["iou"].std() > 0


def test_a_batch_is_timed_beside_its_rows() -> None:
    """The reward alone, at once and row by row, for the number of rollouts asked for."""
    result = script("trl", "step_share").main(["--rollouts", "64"])
    assert result["rollouts"] == 64
    assert result["times as long"] == pytest.approx(
        result["row by row"] / result["seconds at once"]
    )


# verl and EasyR1


@pytest.mark.parametrize(("name", "entry"), [("verl", "main_ppo.py"), ("EasyR1", "main.py")])
def test_the_verl_that_is_here_is_told_apart(
    name: str, entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both import as verl; the wrong one is named, with where it is and how to get the right one."""
    (tmp_path / "verl" / "trainer").mkdir(parents=True)
    (tmp_path / "verl" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert which_verl.find().name == "something else"
    (tmp_path / "verl" / "trainer" / entry).touch()
    assert which_verl.demand(name) == which_verl.Found(name, str(tmp_path / "verl"))
    other = {"verl": "EasyR1", "EasyR1": "verl"}[name]
    with pytest.raises(ImportError, match=f"expected {other} .* found {name} in .*one for {other}"):
        which_verl.demand(other)


def test_easyr1s_settings_name_the_reward_and_the_papers_values() -> None:
    """The kwargs are the adapter's own, the values the paper's, and LoRA differs where it should."""
    full, lora = (
        yaml.safe_load((EXAMPLES / "easyr1" / name).read_text())
        for name in ("config.yaml", "lora.yaml")
    )
    for each, gpus, rate in ((full, 4, 1e-6), (lora, 1, 1e-5)):
        kwargs = each["worker"]["reward"]["reward_function_kwargs"]
        known = set(inspect.signature(compute_score).parameters) - {"reward_inputs"}
        assert set(kwargs) == known
        data, actor, rollout = each["data"], each["worker"]["actor"], each["worker"]["rollout"]
        assert (data["rollout_batch_size"], rollout["n"], rollout["temperature"]) == (16, 8, 1.0)
        assert (data["max_prompt_length"], data["max_response_length"]) == (1300, 3000)
        assert (data["min_pixels"], data["max_pixels"], data["seed"]) == (3136, 12845056, 42)
        assert actor["optim"] == {"lr": rate, "weight_decay": 0.01}
        assert (actor["global_batch_size"], actor["max_grad_norm"]) == (16, 1.0)
        algorithm = each["algorithm"]
        assert (algorithm["kl_penalty"], algorithm["kl_coef"]) == ("low_var_kl", 0.01)
        trainer = each["trainer"]
        assert (trainer["max_steps"], trainer["save_freq"], trainer["val_freq"]) == (500, 50, 50)
        assert trainer["n_gpus_per_node"] == gpus
    assert "lora" not in full["worker"]["actor"]["model"]
    assert lora["worker"]["actor"]["model"]["lora"]["rank"] == 64


def test_easyr1_tiny_scores_three_steps(capfd: pytest.CaptureFixture[str]) -> None:
    """The tiny policy's answers go through the entry file; steps enter the window, validation not."""
    script("easyr1", "train").main(["--tiny"])
    lines = [line for line in capfd.readouterr().out.splitlines() if "rollouts" in line]
    sizes = [float(line.rpartition(" ")[2]) for line in lines]
    assert [line.partition(":")[0] for line in lines] == [
        "validation",
        "step 1",
        "step 2",
        "step 3",
        "validation",
    ]
    assert sizes == [128, 128, 160, 192, 192]
