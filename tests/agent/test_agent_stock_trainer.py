"""Stock Hugging Face and TRL scripts run through the agent with no change: they report, stop, and go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.agent_runs import ROOT, AgentRun
from support.tls_sink import Sink, certificates

BERT = """
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments
torch.set_num_threads(1)
config = BertConfig(vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
rows = [{"input_ids": torch.tensor([1, 2, 3]), "attention_mask": torch.ones(3, dtype=torch.long), "labels": i % 2}
        for i in range(16)]
"""
EAGER = """
# A run of seconds, where a report every five would be none.
callback = next(c for c in trainer.callback_handler.callbacks if type(c).__name__ == "KubeflowCallback")
callback._MIN_UPDATE_INTERVAL = 0.0
trainer.train()
"""
REPORTS = (
    BERT
    + """
trainer = Trainer(
    BertForSequenceClassification(config),
    TrainingArguments(os.environ["MODELYARD_OUTPUT"], max_steps=8, per_device_train_batch_size=2, logging_steps=1,
                      save_strategy="no", disable_tqdm=True, use_cpu=True, report_to=[]),
    train_dataset=rows,
)
"""
    + EAGER
)
STOPS = (
    BERT
    + """
class Slow(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        open(os.environ["MODELYARD_OUTPUT"] + "/steps", "a").write(f"{state.global_step}\\n")
        if not os.environ["MODELYARD_RESUME_FROM"]:
            time.sleep(0.5)

trainer = Trainer(
    BertForSequenceClassification(config),
    TrainingArguments(os.environ["MODELYARD_OUTPUT"] + "/checkpoints", max_steps=60, per_device_train_batch_size=2,
                      enable_jit_checkpoint=True, disable_tqdm=True, use_cpu=True, report_to=[]),
    train_dataset=rows,
    callbacks=[Slow()],
)
trainer.train(resume_from_checkpoint=os.environ["MODELYARD_RESUME_FROM"] or None)
trainer.save_model(os.environ["MODELYARD_OUTPUT"] + "/model")
"""
)
TRL = (
    """
import pathlib
import torch
from datasets import Dataset
from support.tiny_models import language_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer
torch.set_num_threads(1)
base = language_model(pathlib.Path(os.environ["HOME"]) / "base", "llama")
trainer = SFTTrainer(
    AutoModelForCausalLM.from_pretrained(base),
    SFTConfig(os.environ["MODELYARD_OUTPUT"] + "/checkpoints", max_steps=3, per_device_train_batch_size=2,
              logging_steps=1, max_length=32, save_strategy="no", disable_tqdm=True, use_cpu=True, bf16=False,
              report_to=[]),
    train_dataset=Dataset.from_dict({"text": ["a few words to learn from"] * 8}),
    processing_class=AutoTokenizer.from_pretrained(base),
)
"""
    + EAGER
    + """
trainer.save_model(os.environ["MODELYARD_OUTPUT"] + "/model")
"""
)


def reporting(folder: Path, sink: Sink) -> AgentRun:
    (folder / "projected").write_text("token")
    return AgentRun(
        folder,
        {
            "MODELYARD_COLLECTOR_URL": sink.url,
            "MODELYARD_CA_PEM": sink.certificates.ca_pem,
            "MODELYARD_TOKEN_FILE": str(folder / "projected"),
            "http_proxy": "http://127.0.0.1:9",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        },
    )


@pytest.mark.timeout(900)
def test_a_stock_trainer_reports(tmp_path: Path) -> None:
    sink = Sink(certificates(tmp_path))
    ended = reporting(tmp_path, sink).run(REPORTS)
    sink.close()
    assert ended.code == 0, ended.stderr
    steps = [r["modelyard"]["step"] for r in sink.accepted if "step" in r["modelyard"]]
    assert steps[0] == 1
    assert steps == sorted(steps)
    assert steps[-1] == 8
    assert {r["modelyard"].get("totalSteps") for r in sink.accepted} == {8}
    assert any("loss" in r["modelyard"].get("metrics", {}) for r in sink.accepted)
    assert sink.accepted[-1]["trainerStatus"]["progressPercentage"] == 100


@pytest.mark.timeout(900)
def test_a_stock_trainer_that_is_stopped_is_not_done_and_goes_on(tmp_path: Path) -> None:
    agent = AgentRun(tmp_path, {"OMP_NUM_THREADS": "1", "MODELYARD_GRACE_SECONDS": "90"})
    agent.start(STOPS)
    agent.until("some steps", lambda: (agent.output / "steps").exists() and len(steps(agent)) > 3)
    agent.signal()
    stopped = agent.end()
    assert stopped.code == 75, stopped.stderr
    assert stopped.message["result"] == "stopped"
    saved = stopped.message["checkpoint"]
    assert saved["path"] == f"checkpoints/checkpoint-{saved['step']}"
    assert saved["step"] in steps(agent)[-2:]  # it may take one more step before it ends
    assert 3 < saved["step"] < 60
    before = len(steps(agent))

    done = agent.start(STOPS).end()
    assert done.code == 0, done.stderr
    assert (done.message["result"], done.message["resumedFrom"]) == ("done", saved["step"])
    assert steps(agent)[before:] == list(range(saved["step"] + 1, 61))
    assert done.message["summary"]["kind"] == "Full"


@pytest.mark.timeout(900)
def test_a_stock_trl_script_reports(tmp_path: Path) -> None:
    sink = Sink(certificates(tmp_path))
    agent = reporting(tmp_path, sink)
    agent.env["PYTHONPATH"] = f"{ROOT}/training:{ROOT}/tests"
    ended = agent.run(TRL)
    sink.close()
    assert ended.code == 0, ended.stderr
    assert [r["modelyard"]["step"] for r in sink.accepted if "step" in r["modelyard"]][-1] == 3
    assert ended.message["summary"]["path"] == "model"


def steps(agent: AgentRun) -> list[int]:
    return [int(line) for line in (agent.output / "steps").read_text().split()]
