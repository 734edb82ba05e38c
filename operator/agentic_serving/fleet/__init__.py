"""The replica model without a clock: batching, prefix cache, tiers, time profile."""
