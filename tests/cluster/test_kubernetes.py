"""The objects of clusters/kuberay.yaml have the fields that KubeRay knows."""

from __future__ import annotations

from typing import Any

from tests.cluster.test_cluster_files import read

# The fields of KubeRay's API reference (ray.io/v1, 1.6) that ours may use; a name that is not here is a slip.
KUBERAY = {
    "RayCluster": {
        "rayVersion": str,
        "authOptions": {"mode": str},
        "headGroupSpec": {"rayStartParams": dict, "template": dict},
        "workerGroupSpecs": [
            {
                "groupName": str,
                "replicas": int,
                "minReplicas": int,
                "maxReplicas": int,
                "rayStartParams": dict,
                "template": dict,
            }
        ],
    },
    "RayJob": {
        "entrypoint": str,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "backoffLimit": int,
        "submissionMode": str,
        "rayClusterSpec": dict,
    },
}


def check_fields(found: Any, known: Any, where: str) -> None:
    if isinstance(known, dict):
        assert set(found) <= set(known), f"{where} has no {set(found) - set(known)}"
        for name, value in found.items():
            check_fields(value, known[name], f"{where}.{name}")
    elif isinstance(known, list):
        for entry in found:
            check_fields(entry, known[0], where)
    else:
        assert isinstance(found, known), f"{where} is {found!r}"


def test_the_kubernetes_objects_have_the_fields_that_kuberay_knows() -> None:
    listed = read("clusters/kuberay.yaml")
    assert (listed["apiVersion"], listed["kind"]) == ("v1", "List")
    kinds = {}
    for item in listed["items"]:
        assert item["apiVersion"] == "ray.io/v1"
        check_fields(item["spec"], KUBERAY[item["kind"]], item["kind"])
        kinds[item["kind"]] = item
    cluster = kinds["RayCluster"]["spec"]
    assert kinds["RayJob"]["spec"]["rayClusterSpec"] == cluster
    assert kinds["RayJob"]["spec"]["entrypoint"].startswith("python ") and cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        for container in group["template"]["spec"]["containers"]:
            assert {"name", "image", "resources"} <= set(container)
