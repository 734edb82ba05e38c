"""The controller: events become keys in a queue, and a key is reconciled from what is there, whatever happened."""
