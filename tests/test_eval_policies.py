"""Policies: a file, a checkpoint on transformers, and a server that misbehaves."""

from __future__ import annotations

import base64
import io
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import peft
import pytest
import torch
import transformers
from eval_makers import RECIPE, SCENES, answers, run, write
from PIL import Image
from scipy import stats
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

import rankreward as rr
from policy import generate, load, text_tokens_only
from rankreward import evaluation as ev
from rankreward.evaluation.transformers_policy import SeededSampling, identity

IDS = [f"scene-{place}" for place in range(len(SCENES))]
IMAGES = [Image.fromarray(scene.image) for scene in SCENES]
PROMPTS = [rr.prompt(RECIPE, scene.query) for scene in SCENES]


def test_stored_answers(tmp_path: Path) -> None:
    """Answers come by id, in whatever order, with tokens and finish where the file has them."""
    path = tmp_path / "x"
    path.write_text('{"id": "a", "completion": "A", "tokens": 3, "finish": "length"}\n\n'
                    '{"id": "b", "completion": "B", "other": 1}')  # fmt: skip
    found = ev.StoredPolicy(path).complete([None] * 2, ["?"] * 2, ["b", "a"])
    assert found == [ev.Completion("B"), ev.Completion("A", 3, "length")]


def test_a_run_is_a_file_of_answers(tmp_path: Path) -> None:
    """What one run wrote another can be judged from: with another segmenter, say."""
    first = run(tmp_path / "a")
    second = run(tmp_path / "b", ev.StoredPolicy(first), segmenter=ev.GrabCut(slack=0))
    pairs = zip(ev.merge(first), ev.merge(second), strict=True)
    assert all(a["completion"] == b["completion"] for a, b in pairs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a", "completion": "A"}\n' * 2, "expected each id once, twice stand 'a'"),
        ('{"id": "a"}', "x:1: expected the texts 'id' and 'completion'"),
        ('{"id": 1, "completion": "A"}', "x:1: expected the texts"),
        ('\n{"id": "a", ', "x:2: expected a line of JSON"),
        ("[]", "x:1: expected the texts"),
        (None, "completions: cannot read"),
    ],
)
def test_stored_answers_that_cannot_be_read(tmp_path: Path, text: str | None, message: str) -> None:
    """Duplicates, other lines and a missing file are errors that say where."""
    if text is not None:
        (tmp_path / "x").write_text(text)
    with pytest.raises(rr.InputError, match=message):
        ev.StoredPolicy(tmp_path / "x")


def test_stored_answers_that_are_missing(tmp_path: Path) -> None:
    """Every missing id is counted, the first ones are named."""
    policy = ev.StoredPolicy(write(tmp_path / "x", answers()))
    with pytest.raises(rr.InputError, match=r"7 have none: 'no-0', .*'no-4' and 2 more"):
        policy.check(["scene-0", *(f"no-{i}" for i in range(7))])


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Any]:
    torch.manual_seed(0)
    return load()


def policy_of(tiny: tuple[Any, Any], **options: Any) -> ev.TransformersPolicy:
    suppressed = {"suppress_tokens": text_tokens_only(tiny[1].tokenizer)}
    arguments = {"max_new_tokens": 64, "options": suppressed, **options}
    return ev.TransformersPolicy(tiny[0], processor=tiny[1], **arguments)


def complete(policy: ev.TransformersPolicy, order: list[int]) -> dict[str, str]:
    pick = [[values[i] for i in order] for values in (IMAGES, PROMPTS, IDS)]
    return {name: c.text for name, c in zip(pick[2], policy.complete(*pick), strict=True)}


def test_greedy_answers_are_those_of_generate(tiny: tuple[Any, Any]) -> None:
    """The demo's own loop gives the same texts, and a batch the same as one by one."""
    expected = generate(*tiny, SCENES, sample=False, title="tiny")
    for size in (1, 5, 24):
        found = complete(policy_of(tiny, batch_size=size), list(range(24)))
        assert list(found.values()) == expected


def test_a_run_of_the_tiny_policy_is_what_evaluate_says(
    tiny: tuple[Any, Any], tmp_path: Path
) -> None:
    """Checkpoint, GrabCut and records give the numbers of `evaluate` on the same texts."""
    texts = generate(*tiny, SCENES, sample=False, title="tiny")
    whole = ev.evaluate(
        texts, [s.reference for s in SCENES], [s.image for s in SCENES], [s.mask for s in SCENES],
        recipe=RECIPE, segmenter=ev.GrabCut(),
    )  # fmt: skip
    expected, records = whole.summary(), ev.merge(run(tmp_path / "run", policy_of(tiny)))
    assert [record["completion"] for record in records] == texts
    measures = ev.measures_of(records, ev.PROTOCOLS["lisa"])
    for name in ("parsable answers", "mean box IoU", "gIoU", "cIoU"):
        assert measures[name].value == pytest.approx(expected[name], abs=1e-12)
    right = [r["count"] is not None and r["count"] == r["reference_count"] for r in records]
    assert right == whole.count_correct.tolist()
    assert 0 < expected["mean box IoU"] < 1  # so that the agreement says something


def test_sampled_answers_belong_to_their_sample(tiny: tuple[Any, Any]) -> None:
    """In whatever batch and order, a sample's answer is the same; another seed gives others."""
    one = complete(policy_of(tiny, temperature=1.0, top_p=0.95, batch_size=24), list(range(24)))
    two = complete(policy_of(tiny, temperature=1.0, top_p=0.95, batch_size=5), [*range(23, -1, -1)])
    assert one == two
    other = complete(policy_of(tiny, temperature=1.0, top_p=0.95, seed=1), list(range(24)))
    assert sum(one[name] == other[name] for name in IDS) < 6


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.8)])
def test_sampling_draws_from_the_softmax(temperature: float, top_p: float) -> None:
    """Over 20,000 draws tokens have their probability, cut at top-p (chi-squared, p > 0.001)."""
    probabilities = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
    scores = torch.tensor(np.log(probabilities))[None]
    sampling = SeededSampling(0, ["a"], temperature, top_p)
    draws = Counter(int(sampling(None, scores).argmax()) for _ in range(20_000))
    kept = 3 if top_p < 1 else 5
    expected = (probabilities ** (1 / temperature))[:kept]
    assert set(draws) == set(range(kept))
    observed = [draws[token] for token in range(kept)]
    assert stats.chisquare(observed, 20_000 * expected / expected.sum()).pvalue > 0.001


def test_tokens_and_finish(tiny: tuple[Any, Any]) -> None:
    """A turn that ends counts its last token; one that is cut off has as many as it may."""
    ended = policy_of(tiny).complete(IMAGES, PROMPTS, IDS)
    assert {each.finish for each in ended} == {"stop"}
    tokenizer = tiny[1].tokenizer
    for each in ended:
        assert each.tokens == len(tokenizer(each.text)["input_ids"]) + 1
    assert len({each.tokens for each in ended}) > 1
    cut = policy_of(tiny, max_new_tokens=7).complete(IMAGES, PROMPTS, IDS)
    assert {(each.tokens, each.finish) for each in cut} == {(7, "length")}


def test_the_model_is_left_as_it_was(tiny: tuple[Any, Any]) -> None:
    """A model in training is so again after it answered, and has no gradient."""
    tiny[0].train()
    policy_of(tiny).complete(IMAGES[:1], PROMPTS[:1], IDS[:1])
    assert tiny[0].training
    tiny[0].eval()


def save(folder: Path, model: Any, processor: Any, images: Any) -> Path:
    model.save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)
    images.save_pretrained(folder)
    return folder


def qwen3(tokenizer: Any) -> Any:
    """A random Qwen3-VL, with experts nowhere and two layers."""
    token = tokenizer.convert_tokens_to_ids
    special = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    rope = {
        "rope_type": "default", "rope_theta": 1e4,
        "mrope_section": [2, 1, 1], "mrope_interleaved": True,
    }  # fmt: skip
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
        "head_dim": 8, "max_position_embeddings": 1024, "rope_parameters": rope, **special,
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "patch_size": 16,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32,
        "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
    }  # fmt: skip
    config = transformers.Qwen3VLConfig(
        text_config=text, vision_config=vision, image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"), vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.Qwen3VLForConditionalGeneration(config)
    for name, value in special.items():
        setattr(model.generation_config, name, value)
    return model


def test_a_checkpoint_of_qwen2_5(tiny: tuple[Any, Any], tmp_path: Path) -> None:
    """A saved model, its tokenizer and image processor load into the same policy."""
    folder = save(tmp_path / "model", *tiny, tiny[1].image_processor)
    options = policy_of(tiny).settings
    policy = ev.TransformersPolicy(folder, max_new_tokens=64, options=options["options"])
    assert policy.complete(IMAGES, PROMPTS, IDS) == policy_of(tiny).complete(IMAGES, PROMPTS, IDS)
    assert next(policy.model.parameters()).dtype == torch.float32


def test_a_checkpoint_of_qwen3(tiny: tuple[Any, Any], tmp_path: Path) -> None:
    """Likewise Qwen3-VL, whose images may be of different sizes in one batch."""
    model, images = qwen3(tiny[1].tokenizer), Qwen2VLImageProcessorPil(
        patch_size=16, size={"shortest_edge": 1024, "longest_edge": 96 * 96}
    )  # fmt: skip
    folder = save(tmp_path / "model", model, tiny[1], images)
    policy = ev.TransformersPolicy(folder, max_new_tokens=8)
    assert type(policy.model) is transformers.Qwen3VLForConditionalGeneration
    pictures = [IMAGES[0], IMAGES[1].resize((64, 96)), IMAGES[2]]
    together = policy.complete(pictures, PROMPTS[:3], IDS[:3])
    for place in range(3):
        part = slice(place, place + 1)
        assert policy.complete(pictures[part], PROMPTS[part], IDS[part]) == together[part]
    with torch.inference_mode():
        inputs = policy.processor(
            text=[policy._chat(PROMPTS[1])], images=[pictures[1]], return_tensors="pt"
        )
        first = int(model.eval()(**inputs).logits[0, -1].argmax())
    assert together[1].text.startswith(tiny[1].tokenizer.decode([first]))


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # within peft
def test_an_adapter_changes_the_policy(tiny: tuple[Any, Any], tmp_path: Path) -> None:
    """A saved LoRA adapter is put on the model, and is what the merged model says."""
    folder = save(tmp_path / "model", *tiny, tiny[1].image_processor)
    base, _ = load()
    torch.manual_seed(1)
    config = peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(base, config)
    adapted.save_pretrained(tmp_path / "adapter")
    options = {"max_new_tokens": 16}
    policy = ev.TransformersPolicy(folder, adapter=tmp_path / "adapter", **options)
    found = policy.complete(IMAGES[:6], PROMPTS[:6], IDS[:6])
    merged = ev.TransformersPolicy(adapted.merge_and_unload(), processor=tiny[1], **options)
    assert [a.text for a in found] == [
        a.text for a in merged.complete(IMAGES[:6], PROMPTS[:6], IDS[:6])
    ]
    plain = ev.TransformersPolicy(folder, **options).complete(IMAGES[:6], PROMPTS[:6], IDS[:6])
    assert found != plain
    with pytest.raises(rr.ConfigError, match="adapter: expected a PEFT adapter"):
        ev.TransformersPolicy(folder, adapter=folder)


def test_a_checkpoint_that_changed_is_another_policy(tiny: tuple[Any, Any], tmp_path: Path) -> None:
    """A copy has the same settings; the same folder with trained weights has others."""
    one = save(tmp_path / "one", *tiny, tiny[1].image_processor)
    two = save(tmp_path / "two", *tiny, tiny[1].image_processor)
    before = identity(one)
    assert before == identity(two)
    assert identity("Qwen/Qwen2.5-VL-7B-Instruct") == "Qwen/Qwen2.5-VL-7B-Instruct"
    weights = one / "model.safetensors"
    content = weights.read_bytes()
    for place in (0, len(content) // 2, len(content) - 1):
        weights.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert identity(one) != before
    weights.write_bytes(content)
    assert identity(one) == before
    model, _ = load()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.001)
    model.save_pretrained(one)
    assert identity(one) != before


def test_checkpoints_that_cannot_be_loaded(tiny: tuple[Any, Any], tmp_path: Path) -> None:
    """No folder, no weights, weights that are missing, no processor: each is an error."""
    with pytest.raises(rr.ConfigError, match=r"expected a Qwen2\.5-VL or Qwen3-VL checkpoint"):
        ev.TransformersPolicy(tmp_path / "none")
    tiny[0].save_pretrained(tmp_path / "model")
    with pytest.raises(rr.ConfigError, match="processor: expected its files beside the model"):
        ev.TransformersPolicy(tmp_path / "model")
    with pytest.raises(rr.InputError, match="processor: expected the model's processor"):
        ev.TransformersPolicy(tiny[0])
    state = {k: v for k, v in tiny[0].state_dict().items() if "layers.1." not in k}
    tiny[0].save_pretrained(tmp_path / "part", state_dict=state)
    with pytest.raises(rr.ConfigError, match=r"expected all weights in .*part'"):
        ev.TransformersPolicy(tmp_path / "part")


@pytest.mark.parametrize(
    "options", [{"temperature": -1}, {"top_p": 0}, {"batch_size": 0}, {"max_new_tokens": 0}]
)
def test_a_policys_arguments_out_of_range(tiny: tuple[Any, Any], options: Any) -> None:
    """Each is refused."""
    with pytest.raises(rr.InputError, match="policy: expected temperature >= 0"):
        ev.TransformersPolicy(tiny[0], processor=tiny[1], **options)


class Server(ThreadingHTTPServer):
    """Answers chat completions; what goes wrong is said by the prompt."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.busy = self.most = 0
        self.guard = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"][1]["text"]
        with self.server.guard:
            tries = sum(r["messages"] == body["messages"] for r in self.server.requests)
            self.server.requests.append(body)
            self.server.keys.append(self.headers["Authorization"])
            self.server.busy += 1
            self.server.most = max(self.server.most, self.server.busy)
        time.sleep(0.02)
        with self.server.guard:
            self.server.busy -= 1
        if prompt == "silence" and tries == 0:
            time.sleep(0.6)
        if prompt == "hang up" and tries == 0:
            self.connection.close()
            return
        code = {"busy": 429 if tries < 2 else 200, "down": 500, "no": 400}.get(prompt, 200)
        text = json.dumps(
            {
                "choices": [{"message": {"content": f"re {prompt}"}, "finish_reason": "stop"}],
                "usage": {"completion_tokens": 4},
            }
        )
        if prompt == "garbage" or (prompt == "torn" and tries == 0):
            text = text[:30]
        if prompt == "empty":
            text = '{"choices": []}'
        if prompt == "refusal":
            text = '{"choices": [{"message": {"content": null}}]}'
        self.send_response(code)
        if code == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()
        try:
            self.wfile.write(text.encode())
        except OSError:  # the client has gone
            return

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ask(server: Server, prompts: list[str], **options: Any) -> list[Any]:
    arguments = {"timeout": 0.3, "retries": 3, "backoff": 0.01, **options}
    policy = ev.EndpointPolicy(f"http://127.0.0.1:{server.server_port}/v1", "m", **arguments)
    return policy.complete([IMAGES[0]] * len(prompts), prompts, [""] * len(prompts))


def test_a_server_answers(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is OpenAI's, the image in it is the very one, and the key goes along."""
    monkeypatch.setenv("MY_KEY", "secret")
    options = {"temperature": 0.5, "seed": 3, "max_new_tokens": 9, "extra": {"top_k": 5}}
    assert ask(server, ["hello"], key="MY_KEY", **options) == [
        ev.Completion("re hello", tokens=4, finish="stop")
    ]
    request = dict(server.requests[0])
    image, text = request.pop("messages")[0]["content"]
    assert request == {
        "model": "m", "max_tokens": 9, "temperature": 0.5, "top_p": 1.0, "seed": 3, "top_k": 5,
    }  # fmt: skip
    assert text == {"type": "text", "text": "hello"}
    head, content = image["image_url"]["url"].split(",")
    assert head == "data:image/png;base64"
    sent = Image.open(io.BytesIO(base64.b64decode(content)))
    assert np.array_equal(np.asarray(sent), SCENES[0].image)
    assert server.keys == ["Bearer secret"]
    ask(server, ["hello"])
    assert server.keys[1] is None


@pytest.mark.parametrize(
    ("prompt", "tries"), [("busy", 3), ("torn", 2), ("silence", 2), ("hang up", 2)]
)
def test_what_passes_is_tried_again(server: Server, prompt: str, tries: int) -> None:
    """Too many requests, a body that is torn, silence, a connection that breaks."""
    assert ask(server, [prompt])[0] == ev.Completion(f"re {prompt}", 4, "stop")
    assert len(server.requests) == tries


@pytest.mark.parametrize(
    ("prompt", "tries", "message"),
    [
        ("down", 4, "no answer after 4 tries: status 500"),
        ("garbage", 4, "no answer after 4 tries: expected JSON"),
        ("no", 1, "status 400"),
        ("empty", 1, r"expected choices\[0\]"),
        ("refusal", 1, "expected a text"),
    ],
)
def test_what_stays_costs_one_sample(server: Server, prompt: str, tries: int, message: str) -> None:
    """The others of the batch have their answers, in order; the error says what came."""
    first, failed, last = ask(server, ["one", prompt, "two"])
    assert (first.text, last.text) == ("re one", "re two")
    assert isinstance(failed, ev.EndpointError)
    with pytest.raises(ev.EndpointError, match=message):
        raise failed
    assert len(server.requests) == tries + 2


def test_requests_are_under_way_together(server: Server) -> None:
    """As many at a time as are allowed, and answers in order."""
    prompts = [f"p{i}" for i in range(12)]
    found = ask(server, prompts, concurrency=4, timeout=5)
    assert [each.text for each in found] == [f"re {prompt}" for prompt in prompts]
    assert 2 <= server.most <= 4


def test_a_run_on_a_server(server: Server, tmp_path: Path) -> None:
    """No server at all stops the run, and the folder is free for one with the right settings."""
    policy = ev.EndpointPolicy("http://127.0.0.1:9/v1/", "wrong", retries=0, timeout=0.2)
    with pytest.raises(rr.StateError, match="first 8 samples all failed at the stage 'policy'"):
        run(tmp_path / "run", policy)
    url = f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
    records = ev.merge(run(tmp_path / "run", ev.EndpointPolicy(url, "m", timeout=5)))
    assert records[3]["completion"] == f"re {PROMPTS[3]}"
    assert records[3]["failure"]["code"] == rr.parse(f"re {PROMPTS[3]}").failure.code


def test_an_endpoints_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A url of another kind, and a key that is not set."""
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(rr.InputError, match="url: expected http"):
        ev.EndpointPolicy("file:///etc/passwd", "m")
    with pytest.raises(rr.ConfigError, match="environment variable 'MY_KEY', not set"):
        ev.EndpointPolicy("http://x/v1", "m", key="MY_KEY")
    monkeypatch.setenv("MY_KEY", "secret")
    policy = ev.EndpointPolicy("http://x/v1", "m", key="MY_KEY")
    assert "secret" not in json.dumps(policy.settings)
