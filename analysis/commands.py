"""The commands that start, watch and stop work: run, resume, inspect, jobs, log, cancel, and job, which a job's process runs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from analysis import find_analysis
from analysis.spec import Analysis, BadConfig, UserError, settings_of

if TYPE_CHECKING:
    from analysis.jobs import Jobs, JobSpec
    from analysis.runner import Progress
    from store import Job

_ROW_S = 10.0
"""How long a job's process waits for its row: whoever started it enters it a moment later."""


def add_commands(commands: Any, add_store: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add the commands of this module, but ``run``, to the command line."""

    def add(name: str, words: str, command: Callable[[argparse.Namespace], int], *arguments: tuple[str, str]) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=words, description=words)
        for metavar, meaning in arguments:
            one.add_argument(metavar.lower(), metavar=metavar, help=meaning)
        add_store(one)
        one.set_defaults(command=command)
        return one

    job = ("JOB", "id of the job, or the beginning of one")
    add("jobs", "the jobs of a store, the newest first", _jobs).add_argument("--limit", type=int, default=50, help="at most so many")
    add("log", "the end of a job's log", _log, job).add_argument("--tail", type=int, default=200, metavar="N", help="lines (default: 200)")
    add("cancel", "stop a job; what is finished is kept", _cancel, job)
    add_queue_flags(add("resume", "go on where a stopped or failed job stopped", _resume, job))
    one = add("inspect", "open a model, file its facts, and say which analyses can run on it", _inspect)
    which = one.add_mutually_exclusive_group(required=True)
    which.add_argument("model", nargs="?", metavar="MODEL", help="as in run --model")
    add_trust_flags(one, which)
    one.add_argument("--device", default="cpu", help="cpu (default), cuda, or auto for all GPUs")
    add_queue_flags(one)
    add("job", "do a job of the queue in this process (started by the others)", _job, job)


def add_queue_flags(one: argparse.ArgumentParser) -> None:
    """Flags of every command that does work."""
    one.add_argument("--detach", action="store_true", help="go on in the background; prints the id of the job")
    one.add_argument("--now", action="store_true", help="do not wait for running jobs")


def add_executor_flags(one: argparse.ArgumentParser) -> None:
    """Who computes. No flag of these changes what is asked."""
    one.add_argument(
        "--workers", metavar="N", help="processes that compute beside this one, or auto: as many as fit (default: 1, this one)"
    )
    one.add_argument("--executor", default="local", metavar="WHERE", help="local (default), or ray: workers on a Ray cluster")
    one.add_argument("--address", default="", metavar="HOST:PORT", help="of the Ray cluster: auto, host:port or ray://host:port")


def add_trust_flags(one: argparse.ArgumentParser, which: Any) -> None:
    """Flags for what can run code; ``which`` is the group that names the model."""
    which.add_argument("--factory", metavar="PACKAGE.MODULE:FUNCTION", help="a function that returns a model (and batches, and a loss)")
    one.add_argument("--trust", action="store_true", help="open what can run code: a .pt2 file, or --factory; only what you trust")


def _model_of(options: argparse.Namespace) -> str:
    """The reference to the model that the flags name."""
    from analysis.models.places import FACTORY

    return options.model if options.factory is None else f"{FACTORY}{options.factory}"


def _trust(options: argparse.Namespace) -> AbstractContextManager[None]:
    """Trust for this command, where the user gave it. Nothing of it is written down: another process cannot have it."""
    from analysis.models.trust import trusting

    if options.trust and options.detach:
        raise UserError("--trust must be given to work that is done here, got it with --detach; leave one of them out.")
    return trusting() if options.trust else nullcontext()


# ---------------------------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> int:
    """Run an analysis; the path of the sealed run on stdout."""
    from analysis.jobs.request import checked

    analysis = find_analysis(options.slug)
    with _trust(options):
        spec = checked(
            options.slug,
            _model_of(options),
            options.data if analysis.reads_data else None,
            _settings(options, analysis),
            inputs=dict(pair.partition("=")[::2] for pair in options.inputs),
            device=options.device,
            dtype=options.dtype,
            force=options.force,
            now=options.now,
            executor=options.executor,
            workers=options.workers,
            address=options.address,
        )
        return _work(options, spec)


def _settings(options: argparse.Namespace, analysis: Analysis) -> dict[str, Any]:
    """Settings from --config, then --set, then the flags of their own; later ones win."""
    values: dict[str, Any] = {}
    if options.config is not None:
        try:
            values |= json.loads(options.config.read_text())
        except (OSError, ValueError) as error:
            raise BadConfig(f"--config must be a readable JSON file of settings, got {options.config} ({error}).") from error
    for pair in options.values:
        name, found, value = pair.partition("=")
        if not found:
            raise BadConfig(f"--set must be FIELD=VALUE, got {pair!r}.")
        values[name] = value
    flags = {s.name: getattr(options, f"set_{s.name}") for s in settings_of(analysis.config)}
    return values | {name: value for name, value in flags.items() if value is not None}


def _desk(options: argparse.Namespace) -> Jobs:
    from analysis.jobs import Jobs
    from store import Store

    return Jobs(Store(options.store))


def _work(options: argparse.Namespace, spec: JobSpec, resumes: str | None = None) -> int:
    """Do it here, as a job that the queue counts and pages can cancel; or, detached, in a process of its own."""
    desk = _desk(options)
    if options.detach:
        print(desk.start(spec, origin="command line", resumes=resumes).id)
        return 0
    job = desk.register(spec, resumes=resumes)
    with ProgressBar() as bar:
        info = _do(desk, job, to_terminal=True, progress=bar.show)
    if info is not None:
        print(info.path)
    return 0


def _do(desk: Jobs, job: Job, *, to_terminal: bool, progress: Callable[[Progress], None] | None = None) -> Any:
    from analysis.jobs.session import Session

    def tell(words: str) -> None:
        if to_terminal:
            print(f"{words[0].upper()}{words[1:]}; --now does not wait, Ctrl-C gives up.", file=sys.stderr)

    with Session(desk, job, to_terminal=to_terminal, progress=progress) as session:
        return session.work(tell)


def _job(options: argparse.Namespace) -> int:
    from analysis.jobs import processes

    processes.be_nice()
    desk = _desk(options)
    until = time.monotonic() + _ROW_S
    while (job := desk.table.find(options.job)) is None and time.monotonic() < until:
        time.sleep(0.05)
    job = job or desk.table.get(options.job)
    who = processes.identity()
    if job.pid != who.pid or not job.is_live:
        print(f"job {job.id} is {job.status} and belongs to process {job.pid}; resume starts it again.", file=sys.stderr)
        return 2
    _do(desk, job, to_terminal=False)
    return 0


def _resume(options: argparse.Namespace) -> int:
    from dataclasses import replace

    desk = _desk(options)
    return _work(options, replace(desk.again(options.job), now=options.now), resumes=desk.get(options.job).id)


def _inspect(options: argparse.Namespace) -> int:
    from analysis import ANALYSES
    from analysis.jobs import BRIDGE, JobSpec, reference, why_not
    from analysis.jobs.request import check_model

    model = _model_of(options)
    with _trust(options):
        check_model(model)
        _work(options, JobSpec(None, reference(model), device=options.device, now=options.now))
    if not options.detach:
        store = _desk(options).store
        for analysis in ANALYSES:
            print(f"{analysis.slug:20} {why_not(store, analysis, model) or 'can run'}")
        known = store.known.get(reference(model))
        if known is not None and BRIDGE in known.facts:
            print(known.facts[BRIDGE]["words"])
    return 0


def _jobs(options: argparse.Namespace) -> int:
    for job in _desk(options).list(limit=options.limit):
        about = f"{job.share:4.0%} {job.what}" if job.status == "running" and job.share is not None else job.run or job.words
        print(f"{job.id}  {job.status:11} {job.slug or 'inspect':20} {job.model:24} {job.submitted:%Y-%m-%d %H:%M}  {about}".rstrip())
    return 0


def _log(options: argparse.Namespace) -> int:
    print(_desk(options).log(options.job, options.tail))
    return 0


def _cancel(options: argparse.Namespace) -> int:
    job = _desk(options).cancel(options.job)
    print(f"{job.id}  {job.status}  {job.words}".rstrip())
    return 0


class ProgressBar:
    """Progress on stderr: what, how far, time left."""

    def __init__(self) -> None:
        from tqdm import tqdm

        form = "{desc:28.28} {percentage:3.0f}% |{bar:30}| {elapsed} passed, {postfix}"
        self._bar = tqdm(total=1.0, file=sys.stderr, bar_format=form, leave=False, disable=None)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, progress: Progress) -> None:
        """Draw a `Progress`."""
        left = progress.seconds_left
        self._bar.set_description_str(progress.what, refresh=False)
        self._bar.set_postfix_str("time left unknown" if left is None else f"{left:.0f} s left", refresh=False)
        self._bar.n = progress.share
        self._bar.refresh()
