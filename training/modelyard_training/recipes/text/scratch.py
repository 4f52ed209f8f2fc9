"""Networks over texts from scratch: the words of the training split, an LSTM, a CNN, or a small Transformer.

The Transformer is a stock BERT with a stock tokenizer, so that transformers loads it. For the other two there is no
stock class: their module is in `predict`, which is saved with them as `predict.py`.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from modelyard_training.core.task import Use
from modelyard_training.recipes.base_model import labels
from modelyard_training.recipes.text import predict
from modelyard_training.recipes.text.models import TextModel

_CODE = (
    "import sys",
    "sys.path.insert(0, folder)",
    "from predict import Predictor",
    'print(Predictor(folder).predict(["A text", "Another one"]))',
)
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def vocabulary(texts: list[str], most: int) -> list[str]:
    """The most frequent words, in an order that follows from the texts alone."""
    counts = Counter(word for text in texts for word in predict.words(text))
    return [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]]


def build(params: dict[str, Any], texts: list[str], classes: list[str] | None) -> TextModel:
    """The network that `architecture` names, for the words of the training texts."""
    found = vocabulary(texts, params["vocabularySize"])
    if params["architecture"] == "Transformer":
        return _transformer(params, found, classes)
    return _words(params, found, classes)


def _words(params: dict[str, Any], found: list[str], classes: list[str] | None) -> TextModel:
    spec = {
        "format": "modelyard-text/1",
        "architecture": params["architecture"],
        "classes": classes,
        "outputs": len(classes) if classes else 1,
        "longest": params["maxLength"],
        "width": params["width"],
        "dropout": params["dropout"],
        "words": found,
    }
    model = predict.NETWORKS[params["architecture"]](spec)
    index = {word: number for number, word in enumerate(found, start=2)}

    def tokens(texts: list[str], most: int | None) -> list[list[int]]:
        return [predict.numbered(text, index)[:most] for text in texts]

    def outputs(wrapped: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        result: Tensor = wrapped(batch["input_ids"], batch["attention_mask"])
        return result

    def save(trained: nn.Module, folder: Path) -> None:
        from safetensors.torch import save_file

        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in trained.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "model.json").write_text(json.dumps(spec, indent=1, allow_nan=False))
        shutil.copyfile(predict.__file__, folder / "predict.py")

    name, use = params["architecture"], Use("text-classification", None, _CODE)
    return TextModel(model, name, tokens, predict.PADDING, params["maxLength"], outputs, save, use)


def _transformer(params: dict[str, Any], found: list[str], classes: list[str] | None) -> TextModel:
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = _tokenizer(found, params["maxLength"])
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=params["width"],
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=4 * params["width"],
        max_position_embeddings=params["maxLength"],
        hidden_dropout_prob=params["dropout"],
        attention_probs_dropout_prob=params["dropout"],
        pad_token_id=tokenizer.pad_token_id,
        **labels(classes),
    )
    return TextModel.of_transformers(
        BertForSequenceClassification(config), tokenizer, "Transformer", params["maxLength"]
    )


def _tokenizer(found: list[str], longest: int) -> Any:
    """A stock tokenizer that finds the same words as `predict.words`."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    index = {word: number for number, word in enumerate([*_SPECIAL, *found])}
    tokenizer = Tokenizer(models.WordLevel(index, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(predict.WORDS), behavior="removed", invert=True)
    ends = [(name, index[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=longest,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
