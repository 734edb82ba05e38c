"""Ports of the pods that are not engines. Each is fixed by the program that listens on it."""

__all__ = [
    "COORDINATOR_PORT",
    "ENVOY_READY_PORT",
    "HTTP_PORT",
    "LMCACHE_PORT",
    "PICKER_GRPC_PORT",
    "PICKER_METRICS_PORT",
    "SCHEDULER_HTTP_PORT",
    "SCHEDULER_PORT",
    "TOKENIZER_PORT",
]

#: Envoy: clients; readiness and metrics (`render/envoy.py`).
HTTP_PORT = 8080
ENVOY_READY_PORT = 19001
#: Picker: ext_proc and metrics (`templates/pickers/*.yaml`, flags).
PICKER_GRPC_PORT = 9002
PICKER_METRICS_PORT = 9090
#: Program scheduler: ext_proc, access log and health (`render/envoy_scheduler.py`); metrics, reports and hints (`router/web.py`).
SCHEDULER_PORT = 9004
SCHEDULER_HTTP_PORT = 9005
#: `vllm launch render --port`.
TOKENIZER_PORT = 8000
#: `lmcache server --http-port`, on engine pods: what the coordinator asks, and metrics.
LMCACHE_PORT = 8080
#: `lmcache coordinator --port`.
COORDINATOR_PORT = 9300
