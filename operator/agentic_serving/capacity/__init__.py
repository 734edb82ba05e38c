"""Arithmetic on models, hardware and caches: bytes and tokens; the tables of models and accelerators."""
