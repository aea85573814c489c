"""One running stand-in with two names of one model, and its clients."""

import httpx
import ollama
import openai
import pytest
from stand_in import lab_gguf, stand_in


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    weights = lab_gguf(folder)
    with stand_in(folder, f"tiny={weights}", f"Support-Bot:v1={weights}") as running:
        yield running


@pytest.fixture
def native(source):
    return ollama.Client(source.url)


@pytest.fixture
def openai_client(source):
    with openai.OpenAI(base_url=f"{source.url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def web(source):
    with httpx.Client(base_url=source.url, timeout=30) as client:
        yield client
