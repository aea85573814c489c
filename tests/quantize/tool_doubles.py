"""Small real programs in a tool's place, for what the real one cannot be made to do."""

import sys
import textwrap


def fake_python(tmp_path, body):
    """A program called as the worker's Python would be: script and job are its arguments."""
    program = tmp_path / "tool"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, shutil, sys, time\njob = json.load(open(sys.argv[2]))\n{textwrap.dedent(body)}\n"
    )
    program.chmod(0o755)
    return program
