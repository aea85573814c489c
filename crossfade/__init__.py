"""Move production LLM serving from Ollama to vLLM while users keep talking to it.

Everything in this package makes sense without Prefect. The flows and tasks that orchestrate it live in the
top-level packages `flows` and `tasks`.
"""

__version__ = "0.1.0"
