"""The HTTP face of the service. Knows nothing of Modal."""
