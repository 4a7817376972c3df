"""Background jobs that several tabs of a browser share."""

from __future__ import annotations

from app.state.jobs import Job, Jobs


def fail(_: object) -> None:
    raise ValueError("No.")


def test_two_tabs_may_forget_a_job() -> None:
    jobs: Jobs[str, None] = Jobs()
    job = jobs["one"] = Job(fail)
    assert job.done.wait(60)
    jobs.forget("one", job)
    jobs.forget("one", job)
    assert "one" not in jobs


def test_the_job_of_another_tab_stays() -> None:
    jobs: Jobs[str, None] = Jobs()
    first = jobs["one"] = Job(fail)
    again = jobs["one"] = Job(fail)
    jobs.forget("one", first)
    assert jobs["one"] is again
