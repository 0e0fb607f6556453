"""API keys: who holds one, what it is good for, and how long."""
