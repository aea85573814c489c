"""vLLM: how it is started, what its log means when it dies, and how it is asked."""
