"""One example of each kind, for the API reference. A test validates them; more are in `examples/`."""

__all__ = ["EXAMPLES"]

EXAMPLES: dict[str, str] = {
    "AgenticServingStack": """\
apiVersion: agentic-serving.dev/v1alpha1
kind: AgenticServingStack
metadata:
  name: chat
spec:
  model:
    name: Qwen/Qwen3-32B
    source:
      huggingFace:
        repository: Qwen/Qwen3-32B
  accelerator:
    preset: nvidia-h200
  topology:
    aggregated:
      replicas: 2
      parallelism:
        tensor: 2
  kvTierPolicyRef:
    name: host-memory
""",
    "AgentProgram": """\
apiVersion: agentic-serving.dev/v1alpha1
kind: AgentProgram
metadata:
  name: coding
spec:
  agents:
    - name: coder
      stackRef:
        name: chat
  match:
    clients: [ClaudeCode, Codex]
  objective:
    priority: 10
    completion:
      percentile: P95
      target: 5m
""",
    "KVTierPolicy": """\
apiVersion: agentic-serving.dev/v1alpha1
kind: KVTierPolicy
metadata:
  name: host-memory
spec:
  hostMemory:
    backend: Native
    capacityPerReplica: 100Gi
  onUnsupported: Warn
""",
}
