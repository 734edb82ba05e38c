"""Replay client: drives an endpoint with recorded workloads, as real clients do."""
