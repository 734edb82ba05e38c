"""`make demo`: the product at work on this machine, for somebody who sees it for the first time."""
