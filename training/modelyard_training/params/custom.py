"""Parameters of `custom`: the user's own program in the user's own image."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelyard_training.params.common import Params

Argument = Annotated[str, Field(max_length=4096)]


class CustomParams(Params):
    """A program run by the agent: saves to `$MODELYARD_OUTPUT/checkpoints`, resumes from `$MODELYARD_RESUME_FROM`."""

    command: list[Argument] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description=(
            "Program and its first arguments. It is run as it stands, without a shell. Needed for this recipe."
        ),
    )
    args: list[Argument] | None = Field(default=None, max_length=256, description="Further arguments.")
