"""Isolation: a worker that dies or hangs costs its own job alone, and is named."""

import os
import signal
import time

import pytest

from epo.data.isolation import Crash, isolated_map


def behave(job: str) -> str:
    if job.startswith("die"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if job.startswith("exit"):
        os._exit(3)
    if job.startswith("hang"):
        time.sleep(60)
    if job.startswith("raise"):
        raise ValueError("a mistake of ours")
    return job.upper()


def test_every_job_gets_its_own_result_whatever_the_others_do():
    jobs = ["a", "die 1", "b", "exit", "c", "hang", "die 2", *(f"job {number}" for number in range(30))]
    results = dict(isolated_map(behave, jobs, workers=2, limit_s=2.0))
    assert list(sorted(results)) == sorted(jobs)
    crashes = {job: result.reason for job, result in results.items() if isinstance(result, Crash)}
    assert crashes == {
        "die 1": "ended the process (SIGSEGV)",
        "die 2": "ended the process (SIGSEGV)",
        "exit": "ended the process (exit code 3)",
        "hang": "took more than 2 s",
    }
    assert all(results[job] == job.upper() for job in jobs if job not in crashes)


def test_jobs_are_read_only_a_few_ahead():
    read = []

    def jobs():
        for number in range(1000):
            read.append(number)
            yield str(number)

    results = isolated_map(behave, jobs(), workers=2)
    next(results)
    assert len(read) <= 5
    results.close()


def test_no_job_starts_no_process_and_a_mistake_of_ours_is_raised():
    assert list(isolated_map(behave, [], workers=8)) == []
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        list(isolated_map(behave, ["a", "raise"], workers=1))
