"""The change itself: what was built gets its place on the stick, or all of it is undone.

Owns: the one safe order, and what is done when it does not come to its end. Refuses: fetching and
building. Invariant: until the journal says `ready` everything can be taken away again, and is; from
then on only the boot environment is missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ramos.boot import kernels
from ramos.boot.kernels import KernelFiles
from ramos.linux.fs import hold_lock
from ramos.packages import journal, repository
from ramos.packages.build import Prepared
from ramos.packages.journal import Journal, Recovery
from ramos.packages.recipe import Recipe
from ramos.packages.site import LOCK_WAIT_SECONDS, Candidate, Site
from ramos.packages.unpack import Staged
from ramos.progress import OnProgress, Progress, tell_lines
from ramos.store import images
from ramos.store.generations import read_all, sweep


@dataclass(frozen=True)
class Target:
    """A special package that a mirror has in a newer version, or that is not installed yet."""

    name: str
    installed: str
    candidate: Candidate
    recipe: Recipe


@dataclass(frozen=True)
class Work:
    """All that a change consists of: the packages, taken apart, and what was built from them."""

    targets: Sequence[Target]
    staged: Sequence[Staged]
    built: Prepared

    @property
    def names(self) -> list[str]:
        """The packages by name."""
        return [target.name for target in self.targets]


@dataclass(frozen=True)
class Done:
    """What a change brought."""

    journal: Journal
    images: tuple[str, ...]
    generation: int


def make_change(site: Site, work: Work, on_progress: OnProgress) -> Done:
    """Give everything its place; whatever fails, the stick is as it was."""
    with hold_lock(site.lock_file, "packages", LOCK_WAIT_SECONDS), site.open_esp(True) as esp:
        written, trial = _choose_kernels(site, esp, work)
        names = tuple(work.built.name_images(written))
        files = _list_files(site, work)
        begun = Journal(
            packages=tuple(f"{t.name}={t.candidate.version}" for t in work.targets),
            kernels=tuple(written),
            images=tuple(name for name in names if not (site.persist / name).exists()),
            files=repository.list_new(site, files),
            trial=trial,
        )
        journal.begin(site.persist, begun)
        step = f"installing {', '.join(work.names)}"
        on_line = tell_lines(on_progress, step)
        try:
            repository.bring(site, files)
            site.manager.sign_repository(site, site.manager.list_packages(site))
            site.manager.read_repository(site, on_line)
            site.manager.install(site, work.names, on_line, simulate=True)
            generation = work.built.publish_images(site, written)
            for name, kernel in written.items():
                on_progress(Progress(f"writing kernel {name} to the ESP"))
                kernels.write_kernel(esp, name, kernel)
            for target in work.targets:
                site.manager.release_files(site, target.name, target.recipe)
            journal.mark_ready(site.persist, begun)
            on_progress(Progress(step))
            site.manager.install(site, work.names, on_line)
        except BaseException:
            journal.undo(site.persist, esp, begun)
            _end_undone(site, begun)
            raise
        journal.start_trials(esp, begun.trial)
        _end_finished(site)
    return Done(begun, names, generation)


def _list_files(site: Site, work: Work) -> dict[str, bytes]:
    """What is written below packages/: the packages that stay, and the notes about them."""
    folder = site.manager.find_repository(site).relative_to(site.packages)
    found = {f"{folder}/{stage.path.name}": stage.path.read_bytes() for stage in work.staged}
    return found | work.built.render_notes()


def _choose_kernels(
    site: Site, esp: Path, work: Work
) -> tuple[dict[str, KernelFiles], tuple[str, ...]]:
    """What has to be written, not what is there already, and which of it is tried.

    Space is checked for all of it.
    """
    for name in kernels.list_leftovers(esp, kernels.list_complete(esp)):
        kernels.delete_kernel(esp, name)
    stored = [file for generation in read_all(site.persist)[0] for file in generation.base]
    chosen: dict[str, KernelFiles] = {}
    names = []
    for files in work.built.kernels:
        name, there = kernels.choose_name(esp, site.persist, files, stored)
        names.append(name)
        if not there:
            chosen[name] = files
    kernels.require_space(esp, chosen)
    if not chosen:
        return {}, ()
    best = kernels.choose_trial(names, site.running, _list_named(work))
    return chosen, (best,) if best in chosen else ()


def _list_named(work: Work) -> set[str]:
    """The kernels that a metapackage of the change needs."""
    brought = {stage.name: stage.kernels for stage in work.staged}
    metas = [target for target in work.targets if not brought.get(target.name)]
    needs = {depend.partition(" ")[0] for target in metas for depend in target.candidate.depends}
    return {kernel for name in needs & set(brought) for kernel in brought[name]}


def recover(site: Site) -> Recovery:
    """Finish or undo what was interrupted. Doing it twice is the same as once."""
    images.sweep_temporaries(site.persist)
    repository.sweep_temporaries(site)
    if not journal.journal_path(site.persist).exists():
        return Recovery()
    begun = journal.read_journal(site.persist)
    if begun is None:
        journal.end(site.persist)
        return Recovery()
    with hold_lock(site.lock_file, "packages", LOCK_WAIT_SECONDS), site.open_esp(True) as esp:
        sweep(site.persist)
        recovery = journal.finish_or_undo(site.persist, esp, begun)
    if recovery.finished:
        _end_finished(site)
    else:
        _end_undone(site, begun)
    return recovery


def _end_finished(site: Site) -> None:
    repository.delete_old(site)
    journal.end(site.persist)


def _end_undone(site: Site, begun: Journal) -> None:
    repository.take_back(site, begun.files)
    journal.end(site.persist)
