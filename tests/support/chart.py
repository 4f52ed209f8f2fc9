"""The chart as Helm renders it."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from localcluster.tools import build_tools

CHART = Path(__file__).resolve().parents[2] / "charts" / "modelyard"


def render(*, namespace: str = "modelyard-system", **values: Any) -> list[dict[str, Any]]:
    """All objects of the chart for these values, as `helm template` gives them."""
    return json.loads(_render(namespace, json.dumps(values)))  # type: ignore[no-any-return]


@cache
def _render(namespace: str, values: str) -> str:
    helm = str(build_tools(["helm"])["helm"])
    command = [helm, "template", "modelyard", str(CHART), "--namespace", namespace, "--values", "-"]
    text = subprocess.run(command, check=True, capture_output=True, text=True, input=values).stdout
    return json.dumps([obj for obj in yaml.safe_load_all(text) if obj])


def api_rules(**api: Any) -> list[dict[str, Any]]:
    """Every rule that the chart gives the status API's account, cluster-wide."""
    objects = render(api=api)
    names = ("modelyard-api", "modelyard-api-reviews")
    roles = [o for o in objects if o["kind"] == "ClusterRole" and o["metadata"]["name"] in names]
    assert len(roles) == len(names)
    return [rule for role in roles for rule in role["rules"]]
