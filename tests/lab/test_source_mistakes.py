"""What the stand-in refuses, in Ollama's words and with its status; and what its command line refuses."""

import subprocess
import sys

import pytest
from stand_in import ask, lab_gguf


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/api/chat", "", 400, "missing request body"),
        ("/api/chat", "nonsense", 400, "invalid character 'n' looking for beginning of value"),
        ("/api/chat", "[1]", 400, "json: cannot unmarshal array into Go value of type api.ChatRequest"),
        ("/api/chat", '{"model": 3}', 400, "json: cannot unmarshal number into Go struct field ChatRequest.model of type string"),
        ("/api/chat", '{"model": ""}', 400, "model is required"),
        ("/api/show", "{}", 400, "model is required"),
        ("/api/generate", "{}", 404, "model '' not found"),
        ("/api/show", '{"name": "Nope"}', 404, "model 'Nope' not found"),
        ("/api/generate", '{"model": "tiny", "keep_alive": "300"}', 400, 'time: missing unit in duration "300"'),
        ("/api/generate", '{"model": "tiny", "keep_alive": "soon"}', 400, 'time: invalid duration "soon"'),
        ("/api/generate", '{"model": "tiny", "prompt": "x", "options": {"stop": "a"}}', 500, 'option "stop" must be of type array'),
        (
            "/api/generate",
            '{"model": "tiny", "prompt": "x", "options": {"temperature": "hot"}}',
            500,
            'option "temperature" must be of type float32',
        ),
        (
            "/api/generate",
            '{"model": "tiny", "prompt": "x", "raw": true, "system": "y"}',
            400,
            "raw mode does not support template, system, or context",
        ),
        ("/api/generate", '{"model": "tiny", "prompt": "x", "think": true}', 400, '"tiny" does not support thinking'),
        (
            "/api/chat",
            '{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "tools": [{}]}',
            400,
            "registry.ollama.ai/library/tiny:latest does not support tools",
        ),
    ],
)
def test_mistakes_get_ollamas_status_and_words(web, path, body, status, error):
    reply = web.post(path, content=body)
    assert (reply.status_code, reply.json()) == (status, {"error": error})


def test_a_wrong_format_is_a_server_error_that_names_what_is_expected(web):
    reply = web.post("/api/generate", json={"model": "tiny", "prompt": "x", "format": "yaml"})
    assert reply.status_code == 500
    assert 'expected "json"' in reply.json()["error"]


def test_a_prompt_longer_than_the_window_is_400_before_the_stream_begins(web):
    reply = web.post("/api/chat", json={"model": "tiny", "messages": ask("word " * 3000)})
    assert reply.status_code == 400
    assert "exceeds the available context size" in reply.json()["error"]


def test_wrong_verbs_and_paths_get_plain_text(web):
    assert (web.get("/api/chat").status_code, web.get("/api/chat").text) == (405, "405 method not allowed")
    assert (web.get("/api/nope").status_code, web.get("/api/nope").text) == (404, "404 page not found")


def test_what_the_stand_in_cannot_do_it_says(web):
    reply = web.post("/api/pull", json={"model": "x"})
    assert reply.status_code == 501
    assert "stand-in" in reply.json()["error"]


def test_a_host_header_that_is_not_local_is_403_without_a_body(web):
    reply = web.get("/api/tags", headers={"Host": "models.example.com"})
    assert (reply.status_code, reply.content) == (403, b"")
    assert web.get("/api/tags", headers={"Host": "router.internal:11434"}).status_code == 200


def run_stand_in(*arguments):
    command = [sys.executable, "-m", "crossfade.lab.source", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_port_in_use_is_one_message_and_exit_code_2(source, tmp_path):
    ended = run_stand_in("--port", str(source.port), "--model", f"tiny={lab_gguf(tmp_path)}")
    assert ended.returncode == 2
    assert f"Port {source.port}" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("model", ["tiny", "tiny=/nowhere/m.gguf", "tiny=README.md", "ti ny=x"])
def test_a_model_that_cannot_be_read_is_one_message_and_exit_code_2(model):
    ended = run_stand_in("--port", "0", "--model", model)
    assert ended.returncode == 2
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "Traceback" not in ended.stderr
