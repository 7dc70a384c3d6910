"""Each request of the API, by noun. Pure."""
