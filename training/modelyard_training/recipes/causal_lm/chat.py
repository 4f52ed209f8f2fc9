"""Chats: rows of a data set as messages, messages as tokens, and which of these the assistant wrote.

A template that marks the assistant's words with `{% generation %}` says itself which they are. For the others (Llama
3.1 and 3.2 among them) the conversation is rendered up to each answer and after it, and the difference is the answer.
Where that difference is not part of the whole, the chat is refused: it is never trained on as a whole in silence.
"""

from __future__ import annotations

import json
import re
from typing import Any

from modelyard_training.core.errors import BadInput

Message = dict[str, Any]

_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant"}
# The date that these templates fall back to themselves: today's would make a resumed run differ from the first part.
_FIXED = {"date_string": "26 Jul 2024"}


def messages_of(value: Any) -> list[Message]:
    """Messages as templates want them, from a list of `role` and `content` or of `from` and `value`, or its JSON.

    Raises ValueError with a few words for what is no chat.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("is text, not a list of messages") from None
    if not isinstance(value, list) or not value:
        raise ValueError("is not a list of messages" if value else "has no messages")
    messages = [_message(item) for item in value]
    if not any(m["role"] == "assistant" for m in messages):
        raise ValueError("has no message of the assistant")
    return messages


def _message(item: Any) -> Message:
    if not isinstance(item, dict):
        raise ValueError("holds a message that is not an object with role and content")
    # A reader of columns gives each message the keys of all.
    found: Message = _without_nothing(item)
    if "role" not in found and "from" in found:
        found["role"], found["content"] = found.pop("from"), found.pop("value", "")
    if not isinstance(found.get("role"), str):
        raise ValueError("holds a message without a role")
    found["role"] = _ROLES.get(found["role"], found["role"])
    found.setdefault("content", "")
    return found


def _without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nothing(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nothing(v) for v in value]
    return value


class Chats:
    """Turns chats into tokens with one tokenizer's template. Raises `BadInput` if it has none."""

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.chat_template:
            raise BadInput(
                "The data set holds chats, and the base model's tokenizer has no chat template: take the model's "
                "instruct version, include chat_template.jinja in its files, or give the data as text."
            )
        self._tokenizer = tokenizer
        template = tokenizer.get_chat_template()
        self._marked = _MARKED.search(template) is not None

    def encode(self, messages: list[Message], tools: Any, place: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token numbers, and the token spans [from, to) of each of the assistant's turns, in order.

        Raises `BadInput` for messages that the template refuses, or whose answers it does not tell apart.
        """
        if self._marked:
            out = self._apply(
                messages, tools, place, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
            )
            return list(out["input_ids"]), _runs(out["assistant_masks"])
        whole = self._apply(messages, tools, place, tokenize=False)
        spans = [
            self._difference(messages, number, tools, whole, place)
            for number, message in enumerate(messages)
            if message["role"] == "assistant"
        ]
        encoded = self._tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = encoded["offset_mapping"]
        tokens: list[tuple[int, int]] = []
        for begin, end in spans:
            inside = [i for i, (a, b) in enumerate(offsets) if begin <= a < end and b > a]
            if inside:
                tokens.append((inside[0], inside[-1] + 1))
        return list(encoded["input_ids"]), tokens

    def encode_all(self, messages: list[Message], tools: Any, place: str) -> list[int]:
        """Token numbers alone: no answers have to be found."""
        return list(self._apply(messages, tools, place, tokenize=True, return_dict=True)["input_ids"])

    def _difference(self, messages: list[Message], number: int, tools: Any, whole: str, place: str) -> tuple[int, int]:
        """Characters [from, to) of one answer in the whole."""
        before = self._apply(messages[:number], tools, place, tokenize=False, add_generation_prompt=True)
        after = self._apply(messages[: number + 1], tools, place, tokenize=False)
        if whole.startswith(before) and after.startswith(before):
            if whole.startswith(after):
                return len(before), len(after)
            # A template that shows the last answer otherwise than earlier ones, such as with an empty thought.
            content = str(messages[number]["content"]).strip()
            answer = after[len(before) :]
            if content and content in answer:
                tail = answer[answer.rindex(content) + len(content) :]
                expected = content + tail
                if whole[len(before) :].startswith(expected):
                    return len(before), len(before) + len(expected)
        raise BadInput(
            f"The base model's chat template does not tell which words of {place} are the assistant's: put "
            "{% generation %} and {% endgeneration %} around them in the template, or set lossOn: All."
        )

    def _apply(self, messages: list[Message], tools: Any, place: str, **how: Any) -> Any:
        from jinja2.exceptions import TemplateError

        try:
            return self._tokenizer.apply_chat_template(messages, tools=tools or None, **_FIXED, **how)
        except (TemplateError, TypeError, KeyError, ValueError):
            roles = ", ".join(m["role"] for m in messages[:6])
            raise BadInput(
                f"The base model's chat template refuses the messages at {place} (roles: {roles}"
                f"{', …' if len(messages) > 6 else ''}): their roles must alternate and be ones that it knows."
            ) from None


def _runs(mask: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    begin: int | None = None
    for at, on in enumerate([*mask, 0]):
        if on and begin is None:
            begin = at
        elif not on and begin is not None:
            runs.append((begin, at))
            begin = None
    return runs
