from __future__ import annotations

from support.cluster import control_plane, kube, namespace

__all__ = ["control_plane", "kube", "namespace"]
