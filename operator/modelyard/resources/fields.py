"""The scalar types of the API, each bounded: the CEL cost budget counts with the bounds, and so do we.

Nothing here has a default. Patterns are RE2 (no look-ahead), since the API server runs them too.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from modelyard.resources.markers import IntOrString, KeyPattern
from modelyard.resources.names import MODEL_NAME_MAX, TRAINING_NAME_MAX, VERSION_NAME_MAX
from modelyard.resources.quantities import GPU_PATTERN, QUANTITY_PATTERN

_SUBDOMAIN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_LABEL_VALUE: Final = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
_LABEL_KEY: Final = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
)

ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=_SUBDOMAIN)]
"""Name of an object in the cluster."""

ModelName = Annotated[str, StringConstraints(min_length=1, max_length=MODEL_NAME_MAX, pattern=_SUBDOMAIN)]
TrainingName = Annotated[str, StringConstraints(min_length=1, max_length=TRAINING_NAME_MAX, pattern=_SUBDOMAIN)]

VersionName = Annotated[str, StringConstraints(min_length=1, max_length=VERSION_NAME_MAX, pattern=_LABEL_VALUE)]
"""A legal label value, upper case allowed: `FP16`, `v2.0.0`."""

SecretKey = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]

Repo = Annotated[str, StringConstraints(max_length=1024)]
Revision = Annotated[str, StringConstraints(min_length=1, max_length=256)]
FilePattern = Annotated[str, StringConstraints(min_length=1, max_length=256)]
FolderPath = Annotated[
    str, StringConstraints(max_length=200, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$")
]
RelativePath = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=63)]
Description = Annotated[str, StringConstraints(max_length=4096)]

LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=317, pattern=_LABEL_KEY)]
LabelValue = Annotated[str, StringConstraints(max_length=63)]
Labels = Annotated[
    dict[str, LabelValue],
    Field(max_length=64),
    KeyPattern(_LABEL_KEY, "keys must be label keys such as example.com/zone"),
]
Annotations = Annotated[dict[str, Annotated[str, StringConstraints(max_length=4096)]], Field(max_length=64)]

StateName = Literal["PRESENT", "ABSENT"]
Precision = Literal["FP32", "FP16", "BF16", "FP8", "INT8", "INT4"]


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[
    str,
    BeforeValidator(_number_as_text),
    StringConstraints(min_length=1, max_length=32, pattern=QUANTITY_PATTERN),
    IntOrString(QUANTITY_PATTERN, 32),
]
"""A Kubernetes quantity: `4`, `500m`, `20Gi`. Parsed to text; `quantities` turns it into numbers."""

GpuRequest = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=GPU_PATTERN)]

Decimals = Annotated[str, StringConstraints(min_length=1, max_length=16, pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?$")]
"""An amount of money as text, exact: `12.50`."""

Seconds = Annotated[int, Field(ge=1, le=31_536_000)]
"""Up to a year."""

Time = Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})]
Count = Annotated[int, Field(ge=0)]
ShortText = Annotated[str, StringConstraints(max_length=256)]
LongText = Annotated[str, StringConstraints(max_length=2048)]
Reason = Annotated[str, StringConstraints(max_length=128)]
