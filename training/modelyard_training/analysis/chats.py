"""What a language model learns from: chats, completions, plain text, as the recipe's own code makes them.

Every row is turned into tokens once, with the base model's tokenizer and chat template, so that what the trainer would
refuse is refused here. The samples show which tokens count in the loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from modelyard_training.analysis import suggest, tables, weights
from modelyard_training.analysis.lengths import lengths, long_texts
from modelyard_training.analysis.report import Findings
from modelyard_training.core.data import ROW
from modelyard_training.core.errors import BadInput
from modelyard_training.core.stop import Stop
from modelyard_training.params import CausalLMParams

if TYPE_CHECKING:
    from modelyard_training.analysis.look import Given

_WHOLE = 2**30
_SAMPLES, _SHOWN = 3, 512


def look(given: Given) -> Findings:
    """The documents of a language run. Raises `BadInput`."""
    from modelyard_training.recipes.causal_lm import base, documents

    if given.model is None:
        raise BadInput("The recipe causal-lm needs a base model, and none is mounted: set model.ref.")
    config = base.check(given.model)
    model = weights.transformer(given.model)
    tokenizer = base.load_tokenizer(given.model)
    block = given.config.block()
    assert isinstance(block, CausalLMParams)
    limit = base.sequence_length(config, block.sequence_length, given.params["sequenceLength"])
    # Uncut, so that it can be said what a longer sequence would hold; but what shall be refused is refused.
    encoder = documents.Encoder(
        tokenizer, given.params, limit if given.params["longText"] == "Refuse" else _WHOLE, Stop()
    )
    parts = documents.read(given.root(), given.config.dataset, encoder)
    highest, rows = parts.highest_token, model.get("vocabulary")
    if isinstance(rows, int) and highest >= rows:
        raise BadInput(
            f"The tokenizer gives the number {highest}, and the base model's embedding has {rows} rows: tokenizer and "
            "weights belong to different models, or tokens were added without resizing the model."
        )
    train, held = parts.train, parts.held
    learned, kept = ([len(d.tokens) for d in side.documents] for side in (train, held))
    texts = [_content(side.table.frame, parts.columns) for side in (train, held)]
    pieces = parts.kind == "texts"
    profile: dict[str, Any] = {
        "kind": parts.kind,
        **tables.sizes(given.root(), given.data.path),
        "rows": train.table.frame.height + held.table.frame.height,
        "columns": [tables.column(train.table.frame[name]) for name in parts.columns],
        "duplicateRows": sum(len(t) - t.n_unique() for t in texts),
        "rowsInBothParts": tables.shared(*texts),
        "split": {"train": len(train.documents), "validation": len(held.documents)},
        "tokens": lengths(learned, kept, limit),
        "lossTokens": sum(int(d.counts[1:limit].sum()) for d in train.documents),
        "withoutLoss": encoder.notes["documentsWithoutLoss"]
        + sum(1 for d in train.documents if not pieces and not d.counts[1:limit].any()),
    }
    if pieces:
        profile["tokens"] |= {"train": sum(learned), "longer": 0}
    if profile["lossTokens"] == 0:
        raise BadInput(
            "No token of the training split counts in the loss within sequenceLength: check dataset.columns, raise "
            "sequenceLength, or set lossOn: All."
        )
    named = given.data.split is not None and given.data.split.validation is not None
    warnings = tables.about_both(profile, named=named)
    warnings += long_texts(profile["tokens"], profile["rows"], "recipe.causalLM.sequenceLength")
    if profile["withoutLoss"]:
        warnings.append(f"{profile['withoutLoss']} of {profile['rows']} rows have no token that counts in the loss.")
    tokens = profile["tokens"]
    return Findings(
        profile,
        model,
        suggest.language(profile, model),
        warnings,
        [_sample(tokenizer, train.table, d, limit) for d in train.documents[:_SAMPLES]],
        f"{profile['rows']} {parts.kind} of {tokens['total']} tokens, half of them up to {tokens['median']} long; "
        f"{profile['lossTokens']} tokens count in the loss of an epoch.",
    )


def _content(frame: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    """The columns as texts, so that lists of messages can be compared."""
    return frame.select(
        pl.col(c).cast(pl.String).fill_null("")
        if not frame[c].dtype.is_nested()
        else pl.Series(c, [str(v) for v in frame[c].to_list()])
        for c in columns
    )


def _sample(tokenizer: Any, table: Any, document: Any, limit: int) -> dict[str, Any]:
    """One document as runs of tokens, those that count in the loss told apart."""
    tokens, counts = document.tokens[:limit], document.counts[:limit]
    segments: list[dict[str, Any]] = []
    begin = 0
    for at in range(1, len(tokens) + 1):
        if at == len(tokens) or counts[at] != counts[begin]:
            text = tokenizer.decode(tokens[begin:at], skip_special_tokens=False)
            segments.append({"inLoss": bool(counts[begin]), "tokens": at - begin, "text": text[:_SHOWN]})
            begin = at
    place = table.place(document.row) if ROW in table.frame.columns else ""
    return {"from": place, "tokens": len(document.tokens), "cut": len(document.tokens) > limit, "segments": segments}
