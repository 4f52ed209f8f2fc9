"""A stock Hugging Face `Trainer` reports through the agent with no change: its own callback finds the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.agent_runs import AgentRun
from support.tls_sink import Sink, certificates

SCRIPT = """
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
torch.set_num_threads(1)
config = BertConfig(vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
rows = [{"input_ids": torch.tensor([1, 2, 3]), "attention_mask": torch.ones(3, dtype=torch.long), "labels": i % 2}
        for i in range(16)]
trainer = Trainer(
    BertForSequenceClassification(config),
    TrainingArguments(os.environ["MODELYARD_OUTPUT"], max_steps=8, per_device_train_batch_size=2, logging_steps=1,
                      save_strategy="no", disable_tqdm=True, use_cpu=True, report_to=[]),
    train_dataset=rows,
)
trainer._kubeflow = next(c for c in trainer.callback_handler.callbacks if type(c).__name__ == "KubeflowCallback")
trainer._kubeflow._MIN_UPDATE_INTERVAL = 0.0
trainer.train()
"""


@pytest.mark.timeout(300)
def test_a_stock_trainer_reports(tmp_path: Path) -> None:
    sink = Sink(certificates(tmp_path))
    (tmp_path / "projected").write_text("token")
    agent = AgentRun(
        tmp_path,
        {
            "MODELYARD_COLLECTOR_URL": sink.url,
            "MODELYARD_CA_PEM": sink.certificates.ca_pem,
            "MODELYARD_TOKEN_FILE": str(tmp_path / "projected"),
            "http_proxy": "http://127.0.0.1:9",
        },
    )
    ended = agent.run(SCRIPT)
    sink.close()
    assert ended.code == 0, ended.stderr
    steps = [r["modelyard"]["step"] for r in sink.accepted if "step" in r["modelyard"]]
    assert steps[0] == 1
    assert steps == sorted(steps)
    assert steps[-1] == 8
    assert {r["modelyard"].get("totalSteps") for r in sink.accepted} == {8}
    assert any("loss" in r["modelyard"].get("metrics", {}) for r in sink.accepted)
    assert sink.accepted[-1]["trainerStatus"]["progressPercentage"] == 100
