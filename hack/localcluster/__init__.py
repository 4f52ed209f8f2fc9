"""The launcher of Modelyard's own local Kubernetes cluster, for machines without a Docker engine.

`python -m localcluster --help` is its command line; tests use `ControlPlane` and `Cluster` from here.
"""

from localcluster.cluster import Cluster
from localcluster.controlplane import ControlPlane

__all__ = ["Cluster", "ControlPlane"]
