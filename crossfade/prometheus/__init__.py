"""Evidence out of Prometheus: raw counter samples, differenced here. Blindness is a value, never an exception."""
