"""Should this model move, and what is known to go wrong: all that can be said before the first byte is downloaded. Pure."""
