"""Real routers for tests: Envoy and endpoint pickers as processes, and an engine stand-in that echoes."""
