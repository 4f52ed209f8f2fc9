"""One module a type of source. `make` is the only place that knows them all; a client library is imported when used."""

from __future__ import annotations

from modelyard.loader.content import Builder, Source
from modelyard.loader.credentials import Credentials
from modelyard.loader.failure import bad_input
from modelyard.loader.request import Request

NOTHING_TO_COPY = frozenset({"PVC", "NFS", "REFERENCE"})
"""Types whose content is mounted where it is."""
AS_ONE = frozenset({"GIT"})
"""Types whose files come out of a store that their snapshot filled: another source of the same request has none."""


def make(request: Request, credentials: Credentials) -> Source | Builder:
    """The source that a request names.

    Raises:
        LoadError: BadInput for a type, URI or option that is not understood.
    """
    if request.type == "HUGGING_FACE":
        from modelyard.loader.sources.huggingface import HuggingFace

        return HuggingFace(request, credentials)
    if request.type == "HTTP":
        from modelyard.loader.sources.http import Http

        return Http(request, credentials)
    if request.type == "S3":
        from modelyard.loader.sources.s3 import S3

        return S3(request, credentials)
    if request.type == "GIT":
        from modelyard.loader.sources.git import Git

        return Git(request, credentials)
    if request.type == "MODEL_SCOPE":
        from modelyard.loader.sources.modelscope import ModelScope

        return ModelScope(request, credentials)
    if request.type == "KAGGLE":
        from modelyard.loader.sources.kaggle import Kaggle

        return Kaggle(request, credentials)
    if request.type == "CONDA":
        from modelyard.loader.sources.conda import Conda

        return Conda(request)
    types = ", ".join(sorted({"CONDA", "GIT", "KAGGLE", "MODEL_SCOPE", "HUGGING_FACE", "HTTP", "S3", *NOTHING_TO_COPY}))
    raise bad_input(f"Type {request.type[:40]!r} can't be loaded. Known types: {types}.")
