"""thirdparty: the CRD that is our own. The others come from Go's module cache and are tested on an API server."""

from tests.e2e.localcluster.thirdparty import CRD_SETS, crds


def test_the_llmd_objective_has_the_fields_the_api_description_lists() -> None:
    (crd,) = crds("llmd-objective")
    assert (crd["spec"]["group"], crd["spec"]["versions"][0]["name"]) == ("llm-d.ai", "v1alpha2")
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert set(spec["properties"]) == {"priority", "poolRef"}
    assert spec["required"] == ["poolRef"]  # priority is optional
    assert spec["properties"]["poolRef"]["required"] == ["name"]


def test_each_objective_kind_can_be_installed_alone() -> None:
    assert {"llmd-objective", "gie-objective"} <= set(CRD_SETS)
