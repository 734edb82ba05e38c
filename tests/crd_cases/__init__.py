"""Good and bad objects of the three kinds, shared by unit tests and tests on a real API server."""
