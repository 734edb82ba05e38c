"""The dashboard and the rules on a real Prometheus, from the scheduler's real metrics."""
