"""Causal language models: plain text, chats and completions; LoRA, DoRA or all weights; packed sequences.

`documents` reads rows and turns them into tokens that count in the loss or don't, `chat` knows templates, `packing`
puts documents into rows, `base` loads the model, `task` is what the loop trains.
"""

from __future__ import annotations

from modelyard_training.core.run import Run
from modelyard_training.params import CausalLMParams
from modelyard_training.recipes.adapters import check_rank
from modelyard_training.recipes.causal_lm import base, documents
from modelyard_training.recipes.causal_lm.task import CausalLMTask


def build(run: Run) -> CausalLMTask:
    """The task of a run. Raises `BadInput`."""
    folder = run.base_model()
    config = base.check(folder)
    base.check_method(run.params)
    tokenizer = base.load_tokenizer(folder)
    block = run.config.block()
    assert isinstance(block, CausalLMParams)
    limit = base.sequence_length(config, block.sequence_length, run.params["sequenceLength"])
    encoder = documents.Encoder(tokenizer, run.params, limit, run.stop)
    parts = documents.read(run.dataset(), run.config.dataset, encoder)
    run.stop.check()
    model = base.load_model(folder, run.params, run.world.device, run.adapter())
    if (adapter := getattr(model, "peft_config", {}).get("default")) is not None:
        check_rank(block.lora, adapter.r)
    base.check_vocabulary(model, parts)
    return CausalLMTask(run, model, tokenizer, parts, limit)
