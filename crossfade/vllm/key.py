"""The key that vLLM asks of its clients, read from a file: a command line is for every user of the machine to see."""

from __future__ import annotations

from pathlib import Path

from crossfade.errors import UserError


def read_key(file: Path | None) -> str:
    """The key without the line's end; empty when the plan names no file.

    Raises UserError, which never shows the key, when the file cannot be read, is empty or is readable by everybody.
    """
    if file is None:
        return ""
    try:
        key, mode = file.read_text(encoding="utf-8").strip(), file.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UserError(f"cannot read the key in {file}: {what}. Check target.vllm.api_key_file; each worker needs it.") from None
    if mode & 0o004:
        raise UserError(f"{file} can be read by every user of this machine. Run chmod 600 {file} and try again.")
    if not key or any(part.isspace() for part in key):
        raise UserError(f"{file} must hold one key in one line and nothing else.")
    return key
