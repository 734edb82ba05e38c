"""Trace formats and generators: programs, sessions, turns."""
