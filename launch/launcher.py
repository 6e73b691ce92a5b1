"""What happens inside `accelerate launch` and `torchrun` when they start a script of this project.

A launcher that loses a rank prints forty lines and exits with 1, whatever the rank said. PyTorch loads the entry points
of the group "torch.backends" wherever it is imported, also in a launcher; ours sees whether a script of the project is
being launched, and if so lets the launcher end as its ranks did, start them from one import, and be quiet about what a
user can do nothing about. It does nothing anywhere else.
"""

import os
import signal
import sys
from typing import Any

_HERE = os.path.dirname(os.path.realpath(__file__))


def watch() -> None:
    """Take over how a launcher of our scripts ends; the entry point that PyTorch calls."""
    if any(_is_our_script(argument) for argument in sys.argv[1:]):
        _refuse_restarts(sys.argv[1:])
        sys.excepthook = _end_as_the_ranks_did
        _start_lightly()


def _refuse_restarts(argv: list[str]) -> None:
    """Leave with one line where the launcher is to start ranks again by itself.

    The new ranks wait for ones that are gone, without an end: tried twice, hung twice.
    """
    for place, word in enumerate(argv):
        name, is_joined, value = word.partition("=")
        if _is_our_script(word):
            return
        if name in ("--max_restarts", "--max-restarts"):
            number = value if is_joined else "".join(argv[place + 1 : place + 2])
            if number != "0":
                print(
                    f"error: --max_restarts {number}: ranks that the launcher starts again wait for ones that are "
                    "gone; leave it out and give the same command again, which goes on from the last checkpoint (the "
                    "job files of launch/slurm do so by themselves)",
                    file=sys.stderr,
                )
                raise SystemExit(2)


def _start_lightly() -> None:
    from compressor import seams
    from launch.processes.quiet import settle_console
    from launch.processes.shared_start import share_imports

    settle_console()
    seams.leave_out_mlflow()  # accelerate imports DeepSpeed for one name
    share_imports(sys.argv[1:])


def _is_our_script(argument: str) -> bool:
    if not argument.endswith(".py"):
        return argument.startswith("launch.")  # python -m
    return os.path.dirname(os.path.realpath(argument)) == _HERE


def _end_as_the_ranks_did(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Replace the launcher's traceback by one line, or by none where a rank has said it, and its exit code."""
    code, line = _verdict(error)
    if code is None:
        sys.__excepthook__(kind, error, trace)
        return
    if line:
        print(line, file=sys.stderr)
    raise SystemExit(code)  # which Python heeds in this place, and cleans up behind the launcher


def _verdict(error: BaseException) -> tuple[int | None, str]:
    """Return the exit code and line for what a launcher raises; no code for what is not about a rank's end."""
    name = type(error).__name__
    if name == "ChildFailedError":  # torch.distributed.elastic, by name: importing it here would cost every process
        failures = getattr(error, "failures", {})
        codes = {rank: failure.exitcode for rank, failure in failures.items()}
        if not codes:
            return None, ""
        if 2 in codes.values():
            return 2, ""
        rank, code = next(iter(sorted(codes.items(), key=lambda item: item[1] == -signal.SIGTERM)))
        return _of_rank(f"rank {rank}", code)
    if name == "CalledProcessError":
        return _of_rank("the process", getattr(error, "returncode", 1))
    if name == "SignalException":
        number = int(getattr(error, "sigval", signal.SIGTERM))
        return 128 + number, f"ended by {signal.Signals(number).name}"
    return None, ""


def _of_rank(who: str, code: int) -> tuple[int, str]:
    if code > 0:
        return code, "" if code == 2 else f"{who} ended with exit code {code}; its messages stand above"
    hint = "; the kernel does so when memory runs out" if code == -signal.SIGKILL else ""
    return 128 - code, f"{who} was ended by {signal.Signals(-code).name}{hint}"
