"""A PostgreSQL server for the tests: its own data, its own port on loopback, a user with a password, stopped at the end.

It is taken from PATH, from Debian's /usr/lib/postgresql/VERSION/bin, or from the folder in CROSSFADE_TEST_POSTGRES_BIN (of an unpacked
package, say).
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import psutil
from sqlalchemy import create_engine, make_url

PASSWORD = "s3cret/p@ss:word"
_FAST = ("-c", "fsync=off", "-c", "max_connections=40", "-c", "shared_buffers=16MB", "-c", "log_min_messages=fatal")


def postgres_bin() -> Path | None:
    """Folder of `initdb`, `pg_ctl` and `postgres`, or None where there is no server to start."""
    on_path = shutil.which("initdb")
    told = os.environ.get("CROSSFADE_TEST_POSTGRES_BIN")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True)
    for folder in [*([Path(told)] if told else []), *([Path(on_path).resolve().parent] if on_path else []), *debian]:
        if all((folder / program).exists() for program in ("initdb", "pg_ctl", "postgres")):
            return folder
    return None


class Postgres:
    """A running server. As root it is run by `nobody`, because it refuses to be root."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="crossfade-postgres-"))  # a short path: sockets have room for 100 characters
        self._user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
        self.port = _free_port()
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        asked = ("--auth=scram-sha-256", "--username=crossfade", f"--pwfile={secret}", "--encoding=UTF8", "--no-sync", "--no-instructions")
        self._run("initdb", "-D", str(self._data), *asked)
        self.start()

    def start(self) -> None:
        """Start, and wait until it takes connections."""
        options = " ".join([*_FAST, f"-p {self.port}", "-c listen_addresses=127.0.0.1", f"-k {self._folder}"])
        self._run("pg_ctl", "-D", str(self._data), "-w", "-t", "60", "-l", str(self._folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """Stop at once, cutting every connection."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-t", "60", "-m", "immediate", "stop")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All its processes stopped, as on a paused machine."""
        parent = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        parent.suspend()  # first: then it starts no more
        everyone = [parent, *parent.children()]
        try:
            for process in everyone:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            yield
        finally:
            for process in everyone:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    def close(self) -> None:
        """Stop and remove the data."""
        if (self._data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._folder)

    def place(self) -> str:
        """The address of an empty schema: much cheaper than a database each."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.execute(self.address("postgres"), f"CREATE SCHEMA {name}")
        return f"{self.address('postgres')}?options=-csearch_path%3D{name}"

    def address(self, database: str) -> str:
        """As a user would write it in CROSSFADE_JOURNAL."""
        return f"postgresql://crossfade:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"

    def execute(self, address: str, statement: str) -> None:
        """One statement outside any transaction, as an administrator sends it."""
        engine = create_engine(make_url(address).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _run(self, program: str, *arguments: str) -> None:
        said = self._folder / f"{program}.log"  # a file, no pipe: the server inherits it and would keep a pipe open
        with said.open("w") as out:
            done = subprocess.run(
                [str(self._programs / program), *arguments],
                user=self._user if os.geteuid() == 0 else None,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=120,
                check=False,
            )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {''.join(log.read_text() for log in self._folder.glob('*log'))}")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
