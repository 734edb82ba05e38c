"""(stack, programs, policy) → ordered manifests: pure, and the only room where engines, tiers and router meet."""
