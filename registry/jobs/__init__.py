"""Long work: submitted once, run by any worker, gone on with after a kill, watched and cancelled."""

from registry.jobs.context import JobContext, JobLost
from registry.jobs.job import STATES, Job
from registry.jobs.runner import Handler, JobRunner, Kinds
from registry.jobs.store import JobStore, Submitted

__all__ = [
    "STATES",
    "Handler",
    "Job",
    "JobContext",
    "JobLost",
    "JobRunner",
    "JobStore",
    "Kinds",
    "Submitted",
]
