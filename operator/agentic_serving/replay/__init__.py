"""Drives a real endpoint with a workload as real clients do, and reports."""
