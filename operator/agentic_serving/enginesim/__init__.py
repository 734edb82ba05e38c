"""The replica model behind the engine's HTTP surface: an engine without a GPU, for demos and tests."""
