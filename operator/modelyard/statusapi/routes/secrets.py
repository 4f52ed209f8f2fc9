"""A dry run of the rules for credentials. The only path that takes a body; it changes nothing."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from modelyard.resources.meta import MODELSOURCE
from modelyard.statusapi import problems, secretcheck
from modelyard.statusapi.routes.common import Asking, Shared, answer
from modelyard.statusapi.schemas.answers import SecretCheck, SecretCheckRequest

router = APIRouter(tags=["secrets"])


@router.post(
    "/secrets/validate",
    operation_id="validate-secret",
    response_model=SecretCheck,
    responses=problems.documented(413, 415, tagged=False),
)
async def validate(request: Request, service: Shared, caller: Asking, body: SecretCheckRequest) -> Response:
    """Applies the rules of a source's type to names of keys, and says what the operator found in the Secret.

    Needs the right to list ModelSources in the namespace. This API cannot read Secrets.
    """
    await service.require(caller, "list", MODELSOURCE, body.namespace)
    return answer(request, secretcheck.check(body, service.store.list(MODELSOURCE, body.namespace)))
