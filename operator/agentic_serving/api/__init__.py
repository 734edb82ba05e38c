"""The three kinds as types: the one source of CRDs, API reference, validation and editor schemas."""
