"""SIGKILL in the middle of writing: a move, its entry and what is remembered are there together or not at all."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

from journal_words import TS1, note, planned
from sqlalchemy import URL

from crossfade.store.chain import Whole
from crossfade.store.journal import SqlJournal


def _move_for_ever(place: Path | URL, told: Connection) -> None:
    journal = SqlJournal(place)
    while True:
        read = journal.state("chat/lab")
        memory = {"judge": str(read.version + 1) * 5_000}
        journal.move(read.model_copy(update={"soaked_s": float(read.version + 1)}), note(TS1, body=str(read.version + 1)), memory)
        told.send(read.version + 1)


def test_a_writer_killed_at_any_moment_leaves_whole_moves_and_loses_none_it_told_of(place: Path | URL) -> None:
    journal = SqlJournal(place)
    journal.begin(planned(), "p")
    context = multiprocessing.get_context("spawn")
    for stop_after in (1, 3, 7, 12):
        ours, theirs = context.Pipe(duplex=False)
        writer = context.Process(target=_move_for_ever, args=(place, theirs))
        writer.start()
        told = 0
        for _ in range(stop_after):
            assert ours.poll(60)
            told = ours.recv()
        writer.kill()
        writer.join(60)
        state = journal.state("chat/lab")
        assert state.version >= told
        assert state.soaked_s == state.version
        assert journal.recall("chat/lab", "judge") == str(state.version) * 5_000
        assert [entry.body for entry in journal.entries("chat/lab", kind="note")] == [str(v) for v in range(2, state.version + 1)]
        found = journal.check("chat/lab")
        assert isinstance(found, Whole), found
