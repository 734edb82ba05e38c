"""The Kubernetes API behind a port: a real client, one in memory for tests, and pure helpers on plain objects."""
