"""The look at texts and chats: tokens as the model will see them, what counts in the loss, and the model's sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelyard_training.analysis import weights
from modelyard_training.core.errors import BadInput
from support import tiny_models
from support.looking import look

TEXT = {"recipe": "text-classification", "model": {"kind": "Full"}}
CHAT = {"recipe": "causal-lm", "model": {"kind": "Full"}, "dataset": {"split": {"validationFraction": 0.25}}}


def rows(texts: list[str]) -> str:
    return "\n".join(json.dumps({"text": text, "label": "long" if len(text) > 60 else "short"}) for text in texts)


def conversation(number: int, words: int = 3) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": f"What is {number} and {number}?"},
            {"role": "assistant", "content": " ".join([f"It is {2 * number}."] * words)},
        ]
    }


def chats(root: Path, given: list[dict[str, Any]], config: dict[str, Any], **model: Any) -> Any:
    base = tiny_models.language_model(root / "model", "llama", **model)
    return look(root, config, {"chats.jsonl": "\n".join(json.dumps(one) for one in given)}, model=base)


def test_texts_are_counted_in_the_models_tokens(tmp_path: Path, minilm: Path) -> None:
    texts = tiny_models.local_text()[:200]
    seen = look(tmp_path, TEXT, {"a.jsonl": rows([*texts, *texts[:40]])}, model=minilm)
    tokens = seen.profile["tokens"]
    assert 0 < tokens["min"] <= tokens["median"] <= tokens["p95"] <= tokens["max"]
    assert tokens["limit"] == 256
    assert seen.profile["duplicateRows"] + seen.profile["rowsInBothParts"] >= 40
    assert seen.profile["target"]["kind"] == "classes"
    model = seen.found["model"]
    assert (model["family"], model["layers"], model["hidden"], model["inner"]) == ("bert", 6, 384, 1536)
    assert 22e6 < model["parameters"] < 23e6
    assert seen.found["suggested"]["params"]["maxLength"]["value"] % 32 == 0
    sample = seen.file["samples"][0]
    assert sample["tokens"][0] == "[CLS]"
    assert texts[0][:30] not in json.dumps(seen.found)


def test_a_text_that_is_too_long_is_refused_where_it_should_be(tmp_path: Path, minilm: Path) -> None:
    config = {**TEXT, "params": {"maxLength": 8, "longText": "Refuse"}}
    seen = look(tmp_path, config, {"a.jsonl": rows(tiny_models.local_text()[:100])}, model=minilm)
    assert seen.code == 64
    assert "tokens, more than 8" in seen.words["message"]


def test_the_loss_mask_of_chats_is_shown(tmp_path: Path) -> None:
    seen = chats(tmp_path, [conversation(i) for i in range(24)], CHAT)
    assert seen.profile["kind"] == "chats"
    assert seen.profile["split"] == {"train": 18, "validation": 6}
    assert 0 < seen.profile["lossTokens"] < seen.profile["tokens"]["train"]
    segments = seen.file["samples"][0]["segments"]
    masked = "".join(s["text"] for s in segments if not s["inLoss"])
    learned = "".join(s["text"] for s in segments if s["inLoss"])
    assert "What is" in masked
    assert learned.startswith("It is")
    assert len(seen.file["samples"]) == 3
    assert seen.found["suggested"]["recipe"]["value"] == "causal-lm"


def test_what_a_longer_sequence_would_hold_is_told(tmp_path: Path) -> None:
    given = [conversation(i, words=30) for i in range(24)]
    seen = chats(tmp_path, given, {**CHAT, "params": {"sequenceLength": 64}}, max_position_embeddings=2048)
    tokens = seen.profile["tokens"]
    assert (tokens["limit"], tokens["longer"]) == (64, 24)
    assert tokens["train"] == 18 * 64
    assert seen.warned("24 of 24 texts have more than 64 tokens")
    assert seen.found["suggested"]["params"]["sequenceLength"]["value"] >= tokens["p95"]
    assert seen.file["samples"][0]["cut"]


def test_chats_without_a_template_are_refused(tmp_path: Path) -> None:
    seen = chats(tmp_path, [conversation(i) for i in range(8)], CHAT, template=None)
    assert seen.code == 64
    assert "no chat template" in seen.words["message"]


def test_sizes_are_those_of_the_model(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = tiny_models.language_model(tmp_path / "model", "qwen2")
    found = weights.transformer(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    linear = [m for n, m in model.named_modules() if type(m).__name__ == "Linear" and n != "lm_head"]
    assert found["linearSizes"] == sum(m.in_features + m.out_features for m in linear)
    (folder / "model.safetensors").write_bytes(b"\x10")
    with pytest.raises(BadInput, match="damaged"):
        weights.transformer(folder)
