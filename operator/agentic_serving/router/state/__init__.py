"""What outlives the scheduler's process, and what stacks of a pipeline know of each other's runs."""
