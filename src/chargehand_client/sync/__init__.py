"""The client that blocks, by noun."""
