"""Metrics under vLLM's names, with its types, labels and buckets.

Source: vLLM 0.33.0, vllm/v1/metrics/loggers.py and buckets.py, KV connectors' metrics.py. All seconds are simulated
ones: what a real engine of the profile would report.
"""

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.metrics import MetricWrapperBase

from agentic_serving.enginesim.buckets import FIRST_TOKEN, INTER_TOKEN, ITERATION, LATENCY, token_buckets
from agentic_serving.enginesim.engine import Job, Observer
from agentic_serving.fleet.replica import Replica
from agentic_serving.fleet.types import Counters, Finished, Outcome, Step

__all__ = ["CacheInfo", "EngineMetrics"]

#: fleet's sources under vLLM's names. A shared tier behind LMCache is not told apart from its host tier by vLLM.
_SOURCES = {"local": "device", "host": "host", "disk": "disk", "shared": "external_unspecified", "p2p": "p2p"}
_ALL_SOURCES = ("device", "host", "p2p", "disk", "external_unspecified")
_Family = TypeVar("_Family", bound=MetricWrapperBase)
_REASONS = ("stop", "length", "abort", "error", "repetition")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheInfo:
    """Labels of `vllm:cache_config_info` that others read."""

    block_size: int
    num_gpu_blocks: int
    prefix_caching: bool
    hash_algorithm: str

    def labels(self) -> dict[str, str]:
        return {
            "block_size": str(self.block_size),
            "cache_dtype": "auto",
            "enable_prefix_caching": str(self.prefix_caching),
            "engine": "0",
            "gpu_memory_utilization": "0.92",
            "num_cpu_blocks": "None",
            "num_gpu_blocks": str(self.num_gpu_blocks),
            "num_gpu_blocks_override": "None",
            "prefix_caching_hash_algo": self.hash_algorithm,
        }


class EngineMetrics(Observer):
    """The registry of one engine.

    Args:
        consumer: whether KV can be fetched from elsewhere (`kv_role` is kv_consumer or kv_both).
        sources: names of `prompt_tokens_cached_by_source` that differ from fleet's.
    """

    def __init__(
        self,
        model: str,
        max_model_len: int,
        replica: Replica,
        cache: CacheInfo,
        *,
        consumer: bool = False,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._replica = replica
        self._labels = (model, "0")
        self._sources = {**_SOURCES, **(sources or {})}
        self._seen = Counters()
        self._last_token_s: dict[str, float] = {}
        self._max_model_len = max_model_len
        self._gauges(consumer=consumer)
        self._counters()
        self._histograms()
        info = self._register(
            Gauge, "cache_config_info", "Information of the LLMEngine CacheConfig.", cache.labels()
        )
        info.labels(**cache.labels()).set(1)

    def _register(
        self, kind: type[_Family], name: str, text: str, labels: Iterable[str], **more: Any
    ) -> _Family:
        return kind(f"vllm:{name}", text, labelnames=list(labels), registry=self.registry, **more)

    def _gauges(self, *, consumer: bool) -> None:
        stats = self._replica.stats
        base = ("model_name", "engine")

        def gauge(name: str, text: str, value: Callable[[], float], **labels: str) -> None:
            family = known.get(name) or self._register(Gauge, name, text, (*base, *labels))
            known[name] = family
            family.labels(*self._labels, *labels.values()).set_function(value)

        known: dict[str, Gauge] = {}
        gauge(
            "num_requests_running", "Number of requests in model execution batches.", lambda: stats().running
        )
        gauge("num_requests_waiting", "Number of requests waiting to be processed.", lambda: stats().waiting)
        text = "Number of waiting requests by reason."
        gauge(
            "num_requests_waiting_by_reason",
            text,
            lambda: stats().waiting - stats().fetching,
            reason="capacity",
        )
        gauge("num_requests_waiting_by_reason", text, lambda: stats().fetching, reason="deferred")
        gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", lambda: stats().kv_usage)
        gauge("engine_sleep_state", "Engine sleep state.", lambda: 1, sleep_state="awake")
        for state in ("weights_offloaded", "discard_all"):
            gauge("engine_sleep_state", "Engine sleep state.", lambda: 0, sleep_state=state)
        if consumer:
            text = "Number of waiting requests by async KV load stage."
            gauge("num_requests_kv_fetch_by_stage", text, lambda: stats().fetching, stage="in_progress")
            for stage in ("waiting_to_start", "completed_waiting"):
                gauge("num_requests_kv_fetch_by_stage", text, lambda: 0, stage=stage)

    def _counters(self) -> None:
        base = ("model_name", "engine")

        def counter(name: str, text: str, label: str = "", values: Sequence[str] = ()) -> Counter:
            family: Counter = self._register(Counter, name, text, (*base, label) if label else base)
            for value in values:
                family.labels(*self._labels, value)
            return family

        self._queries = counter("prefix_cache_queries", "Prefix cache queries, in tokens.")
        self._hits = counter("prefix_cache_hits", "Prefix cache hits, in tokens.")
        self._external_queries = counter(
            "external_prefix_cache_queries", "Prefix cache queries to KV connectors, in tokens."
        )
        self._external_hits = counter(
            "external_prefix_cache_hits", "Prefix cache hits in KV connectors, in tokens."
        )
        for name in ("mm_cache_queries", "mm_cache_hits"):
            counter(name, "Multi-modal cache, in items.").labels(*self._labels)
        self._preemptions = counter("num_preemptions", "Cumulative number of preemption from the engine.")
        self._prompt = counter("prompt_tokens", "Number of prefill tokens processed.")
        by_source = ("local_compute", "local_cache_hit", "external_kv_transfer")
        self._prompt_by = counter(
            "prompt_tokens_by_source", "Number of prompt tokens by source.", "source", by_source
        )
        self._cached = counter("prompt_tokens_cached", "Number of cached prompt tokens (local + external).")
        self._cached_by = counter(
            "prompt_tokens_cached_by_source", "Prefix-cache hit tokens by cache tier.", "source", _ALL_SOURCES
        )
        self._generated = counter("generation_tokens", "Number of generation tokens processed.")
        self._success = counter(
            "request_success", "Count of successfully processed requests.", "finished_reason", _REASONS
        )
        rejections = self._register(
            Counter,
            "admission_rejections",
            "Rejections by a queue limit, by reason.",
            ("model_name", "reason"),
        )
        self._rejections = {
            r: rejections.labels(self._labels[0], r) for r in ("max_num_queued_reqs", "max_num_queued_tokens")
        }
        for plain in (
            self._queries,
            self._hits,
            self._external_queries,
            self._external_hits,
            self._preemptions,
            self._prompt,
            self._cached,
            self._generated,
        ):
            plain.labels(*self._labels)

    def _histograms(self) -> None:
        tokens = token_buckets(self._max_model_len)

        def histogram(name: str, text: str, buckets: Sequence[float]) -> Histogram:
            family: Histogram = self._register(
                Histogram, name, text, ("model_name", "engine"), buckets=buckets
            )
            child: Histogram = family.labels(*self._labels)
            return child

        self._prompt_tokens = histogram(
            "request_prompt_tokens", "Number of prefill tokens processed.", tokens
        )
        self._output_tokens = histogram(
            "request_generation_tokens", "Number of generation tokens processed.", tokens
        )
        self._computed = histogram(
            "request_prefill_kv_computed_tokens", "New KV tokens computed during prefill.", tokens
        )
        self._most_tokens = histogram(
            "request_max_num_generation_tokens", "Maximum number of requested generation tokens.", tokens
        )
        self._max_tokens = histogram("request_params_max_tokens", "The max_tokens request parameter.", tokens)
        self._n = histogram("request_params_n", "The n request parameter.", (1, 2, 5, 10, 20))
        self._iteration = histogram("iteration_tokens_total", "Number of tokens per engine_step.", ITERATION)
        self._preempted = histogram(
            "request_num_preemptions", "Times a request was preempted.", (1, 2, 3, 4, 5, 10, 20)
        )
        self._first = histogram("time_to_first_token_seconds", "Time to first token in seconds.", FIRST_TOKEN)
        self._inter = histogram("inter_token_latency_seconds", "Inter-token latency in seconds.", INTER_TOKEN)
        self._per_token = histogram(
            "request_time_per_output_token_seconds", "Time per output token per request.", INTER_TOKEN
        )
        self._e2e = histogram("e2e_request_latency_seconds", "E2E request latency in seconds.", LATENCY)
        self._queue = histogram("request_queue_time_seconds", "Time spent in WAITING phase.", LATENCY)
        self._inference = histogram("request_inference_time_seconds", "Time spent in RUNNING phase.", LATENCY)
        self._prefill = histogram("request_prefill_time_seconds", "Time spent in PREFILL phase.", LATENCY)
        self._decode = histogram("request_decode_time_seconds", "Time spent in DECODE phase.", LATENCY)

    def rejected(self) -> None:
        self._rejections["max_num_queued_reqs"].inc()

    def stepped(self, step: Step, outcome: Outcome) -> None:
        self._iteration.observe(step.prefill_tokens + step.decode_tokens)
        for request_id, count in outcome.tokens:
            last = self._last_token_s.get(request_id)
            if last is not None:
                for _ in range(count):
                    self._inter.observe((outcome.end_s - last) / count)
            self._last_token_s[request_id] = outcome.end_s
        self._follow()

    def admitted(self, job: Job) -> None:
        self._last_token_s.pop(job.id, None)
        self._n.observe(1)

    def finished(self, job: Job, finished: Finished) -> None:
        self._last_token_s.pop(job.id, None)
        usage = finished.usage
        self._count(job.finish)
        self._first.observe(finished.first_token_s - finished.arrived_s)
        self._e2e.observe(finished.finished_s - finished.arrived_s)
        self._queue.observe(finished.scheduled_s - finished.arrived_s)
        self._inference.observe(finished.finished_s - finished.scheduled_s)
        self._prefill.observe(finished.first_token_s - finished.scheduled_s)
        self._decode.observe(finished.finished_s - finished.first_token_s)
        self._preempted.observe(finished.preemptions)
        self._computed.observe(usage.computed_tokens)
        self._prompt_tokens.observe(usage.prompt_tokens)
        self._output_tokens.observe(usage.output_tokens)
        self._most_tokens.observe(usage.output_tokens)
        decoded = usage.output_tokens - 1
        self._per_token.observe((finished.finished_s - finished.first_token_s) / decoded if decoded else 0.0)
        if job.max_tokens:
            self._max_tokens.observe(job.max_tokens)

    def aborted(self, job: Job) -> None:
        self._last_token_s.pop(job.id, None)
        self._count("abort")

    def _count(self, reason: str) -> None:
        known = "stop" if reason == "tool_calls" else reason
        self._success.labels(*self._labels, known).inc()

    def _follow(self) -> None:
        """Bring the counters up to the replica's."""
        now, seen = self._replica.counters, self._seen
        pairs = (
            (self._queries, now.prefix_queries - seen.prefix_queries),
            (self._hits, now.prefix_hits - seen.prefix_hits),
            (self._external_queries, now.external_queries - seen.external_queries),
            (self._external_hits, now.external_hits - seen.external_hits),
            (self._preemptions, now.preemptions - seen.preemptions),
            (self._prompt, now.prompt_tokens - seen.prompt_tokens),
            (self._generated, now.output_tokens - seen.output_tokens),
        )
        for family, more in pairs:
            family.labels(*self._labels).inc(more)
        self._follow_sources(now.prompt_tokens - seen.prompt_tokens, now, seen)
        self._seen = replace(now, cached=collections.Counter(now.cached))

    def _follow_sources(self, prompt: int, now: Counters, seen: Counters) -> None:
        grown = {source: count - seen.cached[source] for source, count in now.cached.items()}
        local = grown.get("local", 0)
        external = sum(grown.values()) - local
        self._cached.labels(*self._labels).inc(local + external)
        for name, more in (("local_cache_hit", local), ("external_kv_transfer", external)):
            self._prompt_by.labels(*self._labels, name).inc(more)
        self._prompt_by.labels(*self._labels, "local_compute").inc(max(0, prompt - local - external))
        for source, more in grown.items():
            self._cached_by.labels(*self._labels, self._sources[source]).inc(more)
