"""Where a migration is, what may follow, and how a model's requests are shared between the two engines. Pure."""
