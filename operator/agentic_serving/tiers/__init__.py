"""KV tiers as mechanism: what a KVTierPolicy becomes on an engine, an accelerator and a role. Pure."""
