"""Engines as mechanism: command line, environment, connectors, probes and abilities, by version. Pure."""
