"""The meaning: who asks, what a session holds, what to do next. Sans-I/O; time is an argument."""
