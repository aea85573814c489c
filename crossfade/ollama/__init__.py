"""The source: an Ollama server, as it describes itself and as it answers."""
