"""Every name that Modelyard and the cluster know each other by: group, kinds, labels, annotations, finalizer."""

from __future__ import annotations

from typing import Final

from modelyard.plan import Kind

GROUP: Final = "modelyard.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

MODELSOURCE: Final = Kind(API_VERSION, "ModelSource", "modelsources")
MODEL: Final = Kind(API_VERSION, "Model", "models")
TRAINING: Final = Kind(API_VERSION, "Training", "trainings")
ROOT_KINDS: Final = (MODELSOURCE, MODEL, TRAINING)

PVC: Final = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
PV: Final = Kind("v1", "PersistentVolume", "persistentvolumes")
POD: Final = Kind("v1", "Pod", "pods")
CONFIGMAP: Final = Kind("v1", "ConfigMap", "configmaps")
SECRET: Final = Kind("v1", "Secret", "secrets")
NAMESPACE: Final = Kind("v1", "Namespace", "namespaces")
NODE: Final = Kind("v1", "Node", "nodes")
EVENT: Final = Kind("v1", "Event", "events")
SERVICE: Final = Kind("v1", "Service", "services")
JOB: Final = Kind("batch/v1", "Job", "jobs")
LEASE: Final = Kind("coordination.k8s.io/v1", "Lease", "leases")
STORAGECLASS: Final = Kind("storage.k8s.io/v1", "StorageClass", "storageclasses")
WORKLOAD: Final = Kind("kueue.x-k8s.io/v1beta2", "Workload", "workloads")
DATASET: Final = Kind("dataset.baizeai.io/v1alpha1", "Dataset", "datasets")

OTHERS_PVC: Final = Kind("meta.k8s.io/v1", "PartialObjectMetadata", PVC.plural)
"""Claims that Modelyard did not make, as the operator's store keeps them: whose they are, and no more."""

CLUSTER_SCOPED: Final = frozenset({NAMESPACE, NODE, PV, STORAGECLASS})

FIELD_MANAGER: Final = "modelyard"
FINALIZER: Final = f"{GROUP}/guard"

LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
MANAGED_BY: Final = "modelyard"
MANAGED_SELECTOR: Final = f"{LABEL_MANAGED_BY}={MANAGED_BY}"
"""Selects every object that Modelyard made; what watches of Jobs and Pods ask for."""

COMPONENT_DOWNLOAD: Final = "download"
COMPONENT_TRAINING: Final = "training"
COMPONENT_ANALYSIS: Final = "analysis"
COMPONENT_DATA: Final = "data"
COMPONENT_OUTPUT: Final = "output"
COMPONENT_SHARE: Final = "share"

LABEL_SOURCE: Final = f"{GROUP}/source"
LABEL_MODEL: Final = f"{GROUP}/model"
LABEL_VERSION: Final = f"{GROUP}/version"
LABEL_TRAINING: Final = f"{GROUP}/training"
LABEL_ATTEMPT: Final = f"{GROUP}/attempt"
LABEL_NAMESPACE: Final = f"{GROUP}/namespace"
"""On a PersistentVolume that we made for a Model's own claim: the Model's namespace."""
LABEL_ACCEPT_SHARES: Final = f"{GROUP}/accept-shares"
"""On a namespace: its people accept what others share."""
LABEL_SHARED_NAMESPACE: Final = f"{GROUP}/shared-namespace"
LABEL_SHARED_MODEL: Final = f"{GROUP}/shared-model"
LABEL_SHARED_VERSION: Final = f"{GROUP}/shared-version"
"""On what a version's share is made of, in the namespace that receives it: whose version it is."""
LABEL_SHARED_UID: Final = f"{GROUP}/shared-uid"
"""On the same: uid of the Model that shares. It takes the place of an owner, who cannot be of another namespace."""

ANNOTATION_SAVED: Final = f"{GROUP}/saved"
"""On an output PVC: the record of a saved version, as JSON."""
ANNOTATION_SHARED_VOLUME: Final = f"{GROUP}/shared-volume"
"""On what a share is made of: the claim or Dataset that is shared."""
ANNOTATION_SHARED_CLAIM: Final = f"{GROUP}/shared-claim"
"""On the same: uid of the claim that the files are mounted by at home."""
ANNOTATION_SHARED_PATH: Final = f"{GROUP}/shared-path"
"""On the same: the folder of the volume with the files."""
ANNOTATION_RESYNC: Final = f"{GROUP}/resync"
"""On a Model: any new value fetches its versions again, once per value."""
ANNOTATION_APPROVE: Final = f"{GROUP}/approve"
"""On a Training that waits for approval: the digest of the analysis that a person accepts."""


def managed_labels(component: str, **more: str) -> dict[str, str]:
    """The labels of an object that we create. `more` takes `source`, `model`, `version`, `training`, `attempt`."""
    return {
        LABEL_MANAGED_BY: MANAGED_BY,
        LABEL_COMPONENT: component,
        **{f"{GROUP}/{name}": value for name, value in more.items()},
    }
