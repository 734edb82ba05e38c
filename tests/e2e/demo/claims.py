"""What an administrator brings for the examples: a bound volume for each claim."""

from tests.e2e.localcluster.cluster import Cluster

__all__ = ["claims", "volumes"]


def claims(value: object) -> set[str]:
    """Every PersistentVolumeClaim that the objects refer to."""
    if isinstance(value, dict):
        named = {str(value["claimName"])} if "claimName" in value else set()
        return named.union(*map(claims, value.values()))
    return set().union(*map(claims, value)) if isinstance(value, list) else set()


def volumes(cluster: Cluster, namespace: str, names: set[str]) -> None:
    """A PersistentVolume and its claim, bound to each other, for each name."""
    for claim in sorted(names):
        size = {"storage": "1Ti"}
        common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
        volume = f"{namespace}-{claim}"
        where = {"hostPath": {"path": f"/mnt/{claim}"}, "claimRef": {"name": claim, "namespace": namespace}}
        cluster.apply(
            [
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolume",
                    "metadata": {"name": volume},
                    "spec": {"capacity": size, "persistentVolumeReclaimPolicy": "Delete", **common, **where},
                },
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": claim, "namespace": namespace},
                    "spec": {"volumeName": volume, "resources": {"requests": size}, **common},
                },
            ]
        )
