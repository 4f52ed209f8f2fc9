"""Language models: packed documents stay apart in every family, adapters equal peft's, results load elsewhere."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from modelyard_training.core import files
from modelyard_training.core.run import Run, read_config
from modelyard_training.core.stop import Stop
from modelyard_training.core.world import World
from modelyard_training.params import resolve
from modelyard_training.recipes import causal_lm
from modelyard_training.recipes.causal_lm.task import CausalLMTask
from support import tiny_models

LORA = {"rank": 4, "alpha": 8, "dropout": 0.0}

STOCK = """
import importlib.util, json, sys
assert importlib.util.find_spec("modelyard_training") is None
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(1)
found = []
for base, result, text in json.load(sys.stdin):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if base != result:
        model = PeftModel.from_pretrained(model, result)
    tokenizer = AutoTokenizer.from_pretrained(result)
    ids = torch.tensor([tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]])
    with torch.inference_mode():
        loss = model.eval()(input_ids=ids, labels=ids).loss
    found.append({"loss": loss.item(), "template": bool(tokenizer.chat_template)})
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A tiny base model of a family, made once."""
    root, made = tmp_path_factory.mktemp("bases"), {}

    def base(family: str = "llama", **how: Any) -> Path:
        key = f"{family}-{len(json.dumps(how))}-{abs(hash(json.dumps(how)))}" if how else family
        if key not in made:
            made[key] = tiny_models.language_model(root / key, family, **how)
        return made[key]

    return base


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def texts(count: int = 40) -> str:
    return jsonl([{"text": line} for line in tiny_models.local_text()[:count]])


def chat(number: int) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": f"What is {number} plus one?"},
            {"role": "assistant", "content": f"It is {number + 1}."},
            {"role": "user", "content": "Thanks"},
            {"role": "assistant", "content": "Ok."},
        ]
    }


def config_of(params: dict[str, Any], **more: Any) -> dict[str, Any]:
    short = {"epochs": 1, "batchSize": 4, "lora": LORA, "sequenceLength": 128, **params}
    return {"recipe": "causal-lm", "params": {k: v for k, v in short.items() if v is not None}, **more}


def build(trainer: Any) -> CausalLMTask:
    told = read_config(json.dumps(trainer.config))
    world = World(0, 1, torch.device("cpu"))
    return causal_lm.build(Run(told, resolve(told.block()), world, Stop(), trainer.environment()))


def stock_losses(asked: list[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """Mean losses of (base, result, text) in an isolated interpreter that can't see our package."""
    command = [sys.executable, "-I", "-c", STOCK]
    said = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True).stdout
    found: list[dict[str, Any]] = json.loads(said)
    return found


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_packed_documents_do_not_see_each_other(
    family: str, trainer: Callable[..., Any], bases: Callable[..., Path]
) -> None:
    run = trainer(config_of({"method": "Full"}), {"a.jsonl": texts()}, model=bases(family))
    task = build(run)
    row = next(i for i, documents in enumerate(task._train.rows) if len(documents) >= 3)
    tensors = task._train.tensors(torch.tensor([row]), task._padding)
    ids, positions = tensors["input_ids"], tensors["position_ids"]
    model: Any = task.model.eval().model
    begins = (positions[0] == 0).nonzero().flatten().tolist()
    with torch.inference_mode():
        before = model(input_ids=ids, position_ids=positions, use_cache=False).logits
        alone = model(input_ids=ids[:, begins[1] : begins[2]], use_cache=False).logits
        # Another first document of the same length: nothing after it may change.
        changed = ids.clone()
        changed[0, : begins[1]] = changed[0, : begins[1]].flip(0)
        after = model(input_ids=changed, position_ids=positions, use_cache=False).logits
    torch.testing.assert_close(before[:, begins[1] : begins[2]], alone, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(before[:, begins[1] :], after[:, begins[1] :], atol=0, rtol=0)
    assert not torch.allclose(before[:, : begins[1]], after[:, : begins[1]])


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_packed_loss_is_unpacked_loss(family: str, trainer: Callable[..., Any], bases: Callable[..., Path]) -> None:
    losses, rows = [], []
    for packing in (True, False):
        config = config_of({"packing": packing, "batchSize": 1000})
        task = build(trainer(config, {"a.jsonl": texts()}, name=str(packing), model=bases(family)))
        task.model.eval()
        (batch,) = task.batches(0)
        with torch.inference_mode():
            losses.append(float(task.loss(task.model, task.load(batch))))
            losses.append(task.evaluate(World(0, 1, torch.device("cpu")))["validationLoss"])
        rows.append(len(task._train.rows))
    assert losses[0] == pytest.approx(losses[2], rel=1e-5)
    assert losses[1] == pytest.approx(losses[3], rel=1e-5)
    assert rows[0] < 0.7 * rows[1]


def test_a_token_weighs_the_same_in_any_batch(trainer: Callable[..., Any], bases: Callable[..., Path]) -> None:
    gradients = []
    for size, accumulation in ((8, 1), (3, 3), (1, 8)):
        params = {"batchSize": size, "gradientAccumulation": accumulation, "packing": False}
        config = config_of(params, dataset={"split": {"train": "a.jsonl", "validation": "b.jsonl"}})
        given = {"a.jsonl": texts(8), "b.jsonl": texts(2)}
        task = build(trainer(config, given, name=str(size), model=bases()))
        batches = task.batches(0)
        task.model.eval()
        for batch in batches:
            (task.loss(task.model, task.load(batch)) / len(batches)).backward()  # type: ignore[no-untyped-call]
        gradients.append(torch.cat([p.grad.flatten() for p in task.model.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(gradients[2], gradients[0], atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("dora", [False, True])
def test_loss_curve_is_that_of_peft_and_a_plain_loop(
    dora: bool, trainer: Callable[..., Any], bases: Callable[..., Path]
) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    lines = tiny_models.local_text()[:24]
    rows = jsonl([{"text": line} for line in lines])
    params = {
        "method": "DoRA" if dora else "LoRA",
        "epochs": 12,
        "batchSize": 1000,
        "learningRate": 5e-3,
        "schedule": "Constant",
        "warmupRatio": 0.0,
        "weightDecay": 0.0,
    }
    config = config_of(params, dataset={"split": {"train": "a.jsonl", "validation": "b.jsonl"}})
    run = trainer(config, {"a.jsonl": rows, "b.jsonl": texts(4)}, model=bases())
    assert run.here()[0] == 0

    tokenizer = AutoTokenizer.from_pretrained(bases())
    model = AutoModelForCausalLM.from_pretrained(bases(), dtype=torch.float32)
    torch.manual_seed(17)
    adapter = LoraConfig(
        r=4, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear", use_dora=dora, task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, adapter).train()
    encoded = tokenizer([line + tokenizer.eos_token for line in lines], padding=True, return_tensors="pt")
    labels = encoded["input_ids"].masked_fill(encoded["attention_mask"] == 0, -100)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-3, weight_decay=0.0)
    expected = []
    for _ in range(12):
        loss = model(**encoded, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        expected.append(loss.item())
    ours = [row["loss"] for row in run.rows() if "epoch" not in row]
    assert ours == pytest.approx(expected, rel=2e-4)
    assert ours[-1] < ours[0] - 0.05


def test_an_adapter_computes_the_same_without_casts(trainer: Callable[..., Any], bases: Callable[..., Path]) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from modelyard_training.recipes import adapters

    model = AutoModelForCausalLM.from_pretrained(bases(), dtype=torch.bfloat16)
    adapter = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(model, adapter)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    ids = torch.arange(3, 35)[None]
    found = []
    for narrow in (False, True):
        if narrow:
            adapters.narrow(model)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        found.append([loss.detach(), *torch.autograd.grad(loss, trained)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_results_load_in_stock_libraries(trainer: Callable[..., Any], bases: Callable[..., Path]) -> None:
    held = tiny_models.local_text()[-1]
    cases = [
        ("LoRA", "Adapter", "gpt2"),
        ("LoRA", "Merged", "llama"),
        ("DoRA", None, "qwen3"),
        ("DoRA", "Merged", "mistral"),
        ("Full", None, "gpt_neox"),
        ("Full", None, "qwen2"),
    ]
    asked, measured = [], []
    for method, form, family in cases:
        params = {"method": method, "epochs": 3, "learningRate": 1e-2 if method != "Full" else 3e-3}
        config = config_of(params, dataset={"split": {"train": "a.jsonl", "validation": "b.jsonl"}})
        if form:
            config["form"] = form
        given = {"a.jsonl": texts(), "b.jsonl": jsonl([{"text": held}])}
        run = trainer(config, given, name=f"{method}-{family}", model=bases(family))
        code, result = run.here()
        assert code == 0
        adapter = method != "Full" and form != "Merged"
        assert result["summary"]["kind"] == ("Adapter" if adapter else "Full")
        metrics = result["summary"]["metrics"]
        assert metrics["perplexity"] == pytest.approx(math.exp(metrics["validationLoss"]))
        rows = [row for row in run.rows() if "epoch" in row]
        assert [row["epoch"] for row in rows] == [1, 2, 3]
        assert rows[-1]["loss"] < rows[0]["loss"]
        model = run.output / "model"
        names = sorted(files.listing(model))
        assert ("adapter_model.safetensors" in names) == adapter
        assert not [n for n in names if n.endswith((".bin", ".pt", ".pkl"))]
        asked.append((str(bases(family) if adapter else model), str(model), held))
        measured.append(metrics["validationLoss"])
    found = stock_losses(asked)
    assert [one["loss"] for one in found] == pytest.approx(measured, rel=1e-4)
    assert all(one["template"] for one in found)


@pytest.mark.parametrize("marked", [True, False])
def test_only_the_assistants_words_count(marked: bool, trainer: Callable[..., Any], bases: Callable[..., Path]) -> None:
    from transformers import AutoTokenizer

    template = tiny_models.MARKED if marked else tiny_models.UNMARKED
    base = bases("llama", template=template)
    tokenizer = AutoTokenizer.from_pretrained(base)
    expected = {
        "Assistant": ["It is 8.</s>", "Ok.</s>"],
        "Completion": ["Ok.</s>"],
        "All": None,
    }
    for loss_on, wanted in expected.items():
        rows = jsonl([chat(7) for _ in range(5)])
        task = build(trainer(config_of({"lossOn": loss_on, "sequenceLength": 128}), {"a.jsonl": rows}, model=base))
        document = task._parts.train.documents[0]
        if wanted is None:
            assert document.counts.all()
            continue
        learned = tokenizer.decode(document.tokens[document.counts])
        # Without marks the answer ends where the template's next turn begins: after its line break.
        assert learned.replace("\n", "") == "".join(wanted)
        assert (learned == "".join(wanted)) == marked


LLAMA_3 = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = '26 Jul 2024' %}{%- endif %}"
    "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system_message = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: ' }}"
    "{{- date_string + '\n\n' + system_message + '<|eot_id|>' }}"
    "{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
"""Llama 3.1's and 3.2's template without its tools: no marks, words trimmed, a date."""


def test_the_template_of_llama_3_has_no_marks_and_is_understood(
    trainer: Callable[..., Any], bases: Callable[..., Path]
) -> None:
    said = chat(7)["messages"]
    said[1]["content"] = "  It is 8. \n"
    rows = jsonl([{"messages": [{"role": "system", "content": "Be short."}, *said]}] * 5)
    config = config_of({"sequenceLength": 512})
    run = trainer(config, {"a.jsonl": rows}, model=bases("llama", template=LLAMA_3, max_position_embeddings=512))
    task = build(run)
    document = task._parts.train.documents[0]
    assert task._tokenizer.decode(document.tokens[document.counts]) == "It is 8.<|eot_id|>Ok.<|eot_id|>"
    assert "Today Date: 26 Jul 2024" in task._tokenizer.decode(document.tokens)


def test_template_with_a_changing_history_is_told_apart_or_refused(
    trainer: Callable[..., Any], bases: Callable[..., Path]
) -> None:
    # As Qwen 3's: an empty thought before the last answer alone.
    thought = (
        "{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n"
        "{% endif %}{{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    base = bases("llama", template=thought)
    run = trainer(config_of({"sequenceLength": 128}), {"a.jsonl": jsonl([chat(7)] * 5)}, model=base)
    task = build(run)
    document = task._parts.train.documents[0]
    learned = task._tokenizer.decode(document.tokens[document.counts])
    assert learned == "It is 8.</s>\n<think>\n\n</think>\n\nOk.</s>\n"

    reverse = "{% for m in messages|reverse %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    base = bases("llama", template=reverse)
    code, result = trainer(config_of({}), {"a.jsonl": jsonl([chat(7)] * 5)}, name="reverse", model=base).here()
    assert code == 64
    assert "does not tell which words of line 1 of a.jsonl are the assistant's" in result["message"]
    assert "{% generation %}" in result["message"]


def test_prompts_and_instructions(trainer: Callable[..., Any], bases: Callable[..., Path]) -> None:
    rows = jsonl([{"prompt": "The sky is", "completion": " blue."}] * 5)
    task = build(trainer(config_of({}), {"a.jsonl": rows}, model=bases()))
    document = task._parts.train.documents[0]
    assert task._tokenizer.decode(document.tokens[document.counts]) == " blue.</s>"
    assert task._tokenizer.decode(document.tokens[~document.counts]) == "The sky is"

    rows = jsonl([{"instruction": "Add", "input": "1 and 2", "output": "3"}] * 5)
    task = build(trainer(config_of({}), {"a.jsonl": rows}, name="alpaca", model=bases()))
    document = task._parts.train.documents[0]
    assert task._tokenizer.decode(document.tokens[document.counts]) == "3</s>"
    assert "Add\n\n1 and 2" in task._tokenizer.decode(document.tokens)


def test_parquet_chats_and_text_files(trainer: Callable[..., Any], bases: Callable[..., Path], tmp_path: Path) -> None:
    import polars as pl

    run = trainer(config_of({"maxSteps": 1}), model=bases())
    pl.DataFrame([chat(n) for n in range(8)]).write_parquet(run.root / "data" / "a.parquet")
    assert run.here()[0] == 0
    assert run.metadata()["notes"]["data"] == "chats"
    assert run.metadata()["features"] == ["messages"]

    lines = tiny_models.local_text()
    given = {f"{n}.txt": "\n".join(lines[n * 20 : n * 20 + 20]) for n in range(5)}
    run = trainer(config_of({"maxSteps": 1}), given, name="texts", model=bases())
    assert run.here()[0] == 0
    notes = run.metadata()["notes"]
    assert notes["data"] == "texts"
    assert notes["documentsCut"] == 5
    # Nothing of a long text is lost.
    assert notes["trainTokens"] == notes["lossTokens"] + len(build(run)._parts.train.documents)


def test_killed_and_resumed_is_bit_identical(
    trainer: Callable[..., Any],
    bases: Callable[..., Path],
    wait_for: Callable[..., None],
    done: Callable[..., Any],
) -> None:
    params = {"epochs": 12, "batchSize": 2, "gradientAccumulation": 2}
    params["lora"] = {**LORA, "dropout": 0.1}
    config = config_of(params, checkpoint={"everySteps": 3, "keep": 2}, determinism="Bitwise")
    undisturbed = trainer(config, {"a.jsonl": texts()}, name="undisturbed", model=bases("gpt2"))
    assert undisturbed.run()[0] == 0
    killed = trainer(config, {"a.jsonl": texts()}, name="killed", model=bases("gpt2"))
    process = killed.start()
    wait_for(lambda: max([0, *killed.steps()]) >= 9 or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    assert done(process)[0] == -signal.SIGKILL
    assert killed.run()[0] == 0
    assert killed.metadata()["resumedFrom"] > 0
    assert killed.rows() == undisturbed.rows()
    assert files.listing(killed.output / "model") == files.listing(undisturbed.output / "model")


def test_checkpoint_of_an_adapter_holds_no_frozen_weight(
    trainer: Callable[..., Any], bases: Callable[..., Path]
) -> None:
    from modelyard_training.core import checkpoint

    # GPT-2's head is its embedding: one frozen weight with two names.
    run = trainer(config_of({"maxSteps": 1}), {"a.jsonl": texts()}, model=bases("gpt2"))
    assert run.here()[0] == 0
    (path,) = (path for _, path in checkpoint.checkpoints_in(run.output / "checkpoints"))
    assert all("lora_" in name for name in checkpoint.load_tensors(path))


@pytest.mark.parametrize(
    ("params", "rows", "words"),
    [
        ({"sequenceLength": 300}, None, "sequenceLength is 300, and the base model takes at most 256 tokens"),
        ({"longText": "Refuse", "sequenceLength": 16}, None, "tokens, more than 16: raise sequenceLength"),
        ({"sequenceLength": 16}, [{"prompt": "word " * 40, "completion": "x"}] * 5, "No token of the training split"),
        ({"lora": {"targetModules": ["nothing"]}}, None, "no layers called nothing"),
        (
            {},
            [{"messages": [{"role": "user", "content": "hi"}]}] * 5,
            "line 1 of a.jsonl (column 'messages') has no mes",
        ),
        ({}, [{"messages": "hello"}] * 5, "is text, not a list of messages"),
        ({}, [{"body": "hello"}] * 5, "It has: body."),
    ],
)
def test_bad_input_is_64_and_a_sentence(
    params: dict[str, Any],
    rows: list[dict[str, Any]] | None,
    words: str,
    trainer: Callable[..., Any],
    bases: Callable[..., Path],
) -> None:
    given = jsonl(rows) if rows else texts()
    code, result = trainer(config_of(params), {"a.jsonl": given}, model=bases()).here()
    assert code == 64
    assert words in result["message"]


def test_wrong_base_models(trainer: Callable[..., Any], bases: Callable[..., Path], tiny_bert: Path) -> None:
    run = trainer(config_of({}), {"a.jsonl": texts()}, model=tiny_bert)
    code, result = run.here()
    assert code == 64
    assert "of the family 'bert', which causal-lm can't train: it knows GPT-2, GPT-NeoX, Llama" in result["message"]

    base = bases("llama", template=None)
    code, result = trainer(config_of({}), {"a.jsonl": jsonl([chat(1)] * 5)}, name="chat", model=base).here()
    assert code == 64
    assert "has no chat template" in result["message"]


def test_long_rows_are_packed_best_fit() -> None:
    from modelyard_training.recipes.causal_lm.packing import pack

    lengths = [5, 3, 8, 2, 2, 10, 1, 7, 2]
    rows = pack(lengths, 10)
    assert sorted(n for row in rows for n in row) == list(range(len(lengths)))
    assert all(sum(lengths[n] for n in row) <= 10 for row in rows)
    assert len(rows) == 4
    assert pack(lengths, 10) == rows


def test_an_adapter_is_trained_further_or_merged_for_all_weights(
    trainer: Callable[..., Any], bases: Callable[..., Path]
) -> None:
    first = trainer(config_of({"learningRate": 0.01}), {"a.jsonl": texts()}, name="first", model=bases())
    assert first.here()[0] == 0
    adapter = first.output / "model"
    given = {"model": bases(), "extra": {"MODELYARD_ADAPTER": str(adapter)}}
    named = {"adapter": {"name": "first", "kind": "Adapter"}}
    ends = [row["validationLoss"] for row in first.rows() if "epoch" in row]

    further = trainer(config_of({"lora": None}, **named), {"a.jsonl": texts()}, name="further", **given)
    task = build(further)
    assert task.evaluate(World(0, 1, torch.device("cpu")))["validationLoss"] == pytest.approx(ends[-1], rel=1e-4)
    code, result = further.here()
    assert code == 0
    assert result["summary"]["kind"] == "Adapter"
    settings = json.loads((further.output / "model" / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"]) == (4, 8)

    whole = trainer(config_of({"method": "Full", "lora": None}, **named), {"a.jsonl": texts()}, name="whole", **given)
    task = build(whole)
    assert task.evaluate(World(0, 1, torch.device("cpu")))["validationLoss"] == pytest.approx(ends[-1], rel=1e-4)
    assert task.describe().kind == "Full"

    other = trainer(config_of({"lora": {"rank": 8}}, **named), {"a.jsonl": texts()}, name="other", **given)
    code, result = other.here()
    assert code == 64
    assert "lora.rank is 8, and the adapter of model.ref has rank 4" in result["message"]


QUANTISED = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
torch.set_num_threads(1)
base, result, merged, text = json.load(sys.stdin)
how = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
small = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, quantization_config=how), result)
whole = AutoModelForCausalLM.from_pretrained(merged)
tokenizer = AutoTokenizer.from_pretrained(result)
ids = torch.tensor([tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]])
with torch.inference_mode():
    json.dump([m.eval()(input_ids=ids, labels=ids).loss.item() for m in (small, whole)], sys.stdout)
"""


def test_an_adapter_of_a_4_bit_base(
    trainer: Callable[..., Any], bases: Callable[..., Path], stop_later: Callable[[int], Stop]
) -> None:
    base = bases("llama", hidden_size=64, intermediate_size=128)
    held = tiny_models.local_text()[-1]
    given = {"a.jsonl": texts(), "b.jsonl": jsonl([{"text": held}])}
    split = {"split": {"train": "a.jsonl", "validation": "b.jsonl"}}
    runs, losses = {}, {}
    for form in ("Adapter", "Merged"):
        params = {"method": "QLoRA", "epochs": 3, "learningRate": 1e-2}
        run = trainer(config_of(params, dataset=split, form=form, determinism="Bitwise"), given, name=form, model=base)
        code, result = run.here()
        assert code == 0, result
        runs[form], losses[form] = run, [row["loss"] for row in run.rows()]
    assert losses["Adapter"] == losses["Merged"]
    assert losses["Adapter"][-1] < losses["Adapter"][0]
    # Gone on from its second epoch, it ends the same.
    first, again = runs["Adapter"], trainer(runs["Adapter"].config, given, name="again", model=base)
    from modelyard_training.core import checkpoint

    _, path = checkpoint.checkpoints_in(first.output / "checkpoints")[0]
    assert all("lora_" in name for name in checkpoint.load_tensors(path))
    code, result = again.here(stop_later(9))
    assert code == 75
    assert result["step"] > 0
    assert again.here()[0] == 0
    assert [row["loss"] for row in again.rows()] == losses["Adapter"]
    asked = [str(base), str(first.output / "model"), str(runs["Merged"].output / "model"), held]
    command = [sys.executable, "-I", "-c", QUANTISED]
    said = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True).stdout
    small, whole = json.loads(said)
    measured = first.metadata()["metrics"]["validationLoss"]
    assert small == pytest.approx(measured, rel=1e-3)
    assert whole == pytest.approx(measured, rel=0.05)
