"""A stand-in for LMCache's server and coordinator, for pods of simulated engines: it knows which chunks there are."""
