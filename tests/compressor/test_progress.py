"""Progress as lines where nobody watches, as a bar on a terminal, and on rank 0 alone."""

import contextlib
import fcntl
import io
import os
import re
import struct
import termios

import pytest

from compressor.progress import Progress, show_progress


def test_lines_name_task_count_rate_and_time_left():
    stream = io.StringIO()
    progress = Progress("sft", 320, "steps", stream=stream, pause_s=0.0)
    progress.note("loss 1.234")
    progress.advance(40)
    progress.advance(280, may_write=False)
    progress.close()
    first, last = stream.getvalue().splitlines()
    assert re.fullmatch(r"sft: 40/320 steps, loss 1\.234, [\d,.]+ steps/s, 0 s left", first)
    assert re.fullmatch(r"sft: 320/320 steps, loss 1\.234, [\d,.]+ steps/s, 0 s in all", last)


def test_a_short_task_is_one_line_and_an_empty_one_none():
    stream = io.StringIO()
    for total in (50, 0):
        progress = Progress("reading clips", total, "clips", stream=stream)
        for _ in range(total):
            progress.advance()
        progress.close()
    assert len(stream.getvalue().splitlines()) == 1 and stream.getvalue().startswith("reading clips: 50/50 clips, ")


@pytest.mark.parametrize(("seconds", "lines"), [((1.0, 2.0, 3.0), 0), ((1.0, 11.0, 12.0), 2)])
def test_a_brief_task_may_be_left_untold(monkeypatch, seconds, lines):
    now_s = iter([0.0, *seconds])
    monkeypatch.setattr("time.monotonic", lambda: next(now_s))
    stream = io.StringIO()
    progress = Progress("rewards", 2, "pairs", stream=stream, is_brief_told=False)
    progress.advance()
    progress.advance()
    progress.close()
    assert len(stream.getvalue().splitlines()) == lines


def test_steps_of_an_earlier_run_do_not_count_as_speed(monkeypatch):
    now_s = iter([0.0, 20.0, 30.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now_s))
    stream = io.StringIO()
    progress = Progress("sft", 120, "steps", done=100, stream=stream)
    progress.advance(10)  # 10 steps in 20 s, 10 to go
    progress.advance(1, may_write=False)
    assert stream.getvalue() == "sft: 110/120 steps, 2.0 s each, 20 s left\n"


def test_other_ranks_are_silent(monkeypatch, capfd):
    monkeypatch.setenv("RANK", "1")
    assert list(show_progress([1, 2, 3], "reading clips", "clips")) == [1, 2, 3]
    assert capfd.readouterr() == ("", "")


def test_items_of_unknown_number_are_counted_to_where_they_end(capfd):
    with pytest.raises(ZeroDivisionError):
        for item in show_progress(iter([1, 2, 0]), "import", "dialogues"):
            1 / item
    assert capfd.readouterr().err.startswith("import: 2 dialogues, ")


def test_a_terminal_gets_one_bar_that_stays_on_its_line():
    reader, writer = os.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with open(writer, "w") as terminal:
        progress = Progress("sft", 3, "steps", stream=terminal)
        progress.advance(2)
        progress.note("loss 0.5")
        progress.write_line()
        progress.close()
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal's output is an error
        while piece := os.read(reader, 10_000):  # which may come in pieces
            shown += piece
    os.close(reader)
    shown = shown.decode()
    assert "sft:  67%" in shown and "2/3" in shown and "loss 0.5" in shown
    assert shown.count("\r") > 1 and shown.count("\n") == 1
