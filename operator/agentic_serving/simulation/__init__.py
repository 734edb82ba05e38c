"""Policies in a discrete-event fleet: workloads, baselines, reports."""
