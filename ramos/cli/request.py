"""What the builder was asked for: from options to a plan, and all that stands against it.

Owns: the plan of some options, the disk that they mean, and the checks that only the command can
make (secrets, the disk, --try); the others are those of image/checks. Refuses: asking and printing.
Invariant: one table is behind the build, `--plan` and the questions, and a request holds no secret.
"""

import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ramos.cli import passphrase, provision, vm
from ramos.errors import RamosError, UsageError
from ramos.image import bases, cache, checks, figures, plan, write
from ramos.image.checks import Check, Refusal
from ramos.image.plan import Plan
from ramos.linux import run
from ramos.stick.disks import Disk
from ramos.vm import firmware

# In the place of a hash that is not made yet; nobody could log in with it.
SOME_PASSWORD = "*"
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """The plan that options mean, but for its secrets; `disk_fault` is why there is no disk."""

    options: Options
    plan: Plan
    why: str
    disk: Disk | None = None
    disk_fault: RamosError | None = None


def read_request(options: Options, *, is_base_known: bool = True) -> Request:
    """What options mean; where the base is still to be chosen, no mirror is asked for it."""
    epoch = read_epoch(os.environ.get("SOURCE_DATE_EPOCH", ""))
    values = {item.name: plan.read_choice(item, options[item.name]) for item in plan.list_choices()}
    values["cache"] = (options["cache"] or default_cache()).absolute()
    secret = SOME_PASSWORD if options["password_file"] or options.get("password") else ""
    chosen, why = Plan(**values, password_hash=secret, epoch=epoch), ""
    if is_base_known:
        name, why = settle_base(_keep_mirror(chosen))
        chosen = bases.settle_init(replace(chosen, base=name))
    if not options["path"]:
        return Request(options, chosen, why)
    chosen = replace(chosen, output=chosen.cache / cache.DEVICE_IMAGE)
    try:
        disk = _find_disk(options, figures.find_least_size(chosen))
    except RamosError as error:
        return Request(options, chosen, why, disk_fault=error)
    return Request(options, replace(chosen, device_bytes=disk.size_bytes), why, disk)


def _find_disk(options: Options, needed_bytes: int) -> Disk:
    if options["output"]:
        raise UsageError("cannot use", "--output", "--device says where the image goes")
    return provision.choose_disk(
        options["path"], allow_fixed=options["allow_fixed"], needed_bytes=needed_bytes
    )


def _keep_mirror(chosen: Plan) -> Plan:
    """The part of a plan that says where its packages come from."""
    names = ("base", "release", "init", "mirror", "keys", "cache")
    return Plan(**{name: getattr(chosen, name) for name in names})


def _keep_source(chosen: Plan) -> Plan:
    """The same, and what is fetched from there."""
    names = ("profile", "kernel", "packages", "firmware", "keymap")
    kept = {name: getattr(chosen, name) for name in names}
    return replace(_keep_mirror(chosen), **kept)


@functools.cache
def settle_base(source: Plan) -> tuple[str, str]:
    """The base that `auto` means, and why; the mirrors are asked once, however often it is."""
    settled, why = bases.choose_base(source)
    return settled.base, why


@functools.cache
def _check_source(check: Check[Plan], source: Plan) -> None:
    """What the mirror said once holds as long as these questions do."""
    check.look(source)


def complete_plan(request: Request) -> Plan:
    """The plan with its secrets; a passphrase may have to be typed now."""
    password = read_password(request.options)
    return replace(
        request.plan,
        password_hash=hash_password(password, request.plan.epoch),
        passphrase=passphrase.choose_passphrase(request.options),
    )


def check_disk(request: Request) -> None:
    """Refuse a disk that cannot be written to, or that somebody has open."""
    if request.disk_fault:
        raise request.disk_fault
    if request.disk:
        write.check_free(request.disk)


def check_confirmation(request: Request) -> None:
    """Where nobody is asked, the disk has to be confirmed already."""
    if request.disk:
        confirmed, batch = request.options["confirmed"], request.options["batch"]
        provision.check_confirmation(request.disk, confirmed, batch=batch)


def check_try(request: Request) -> None:
    """Refuse --try where no machine could be started after the build."""
    if not request.options["try_it"]:
        return
    if request.options["path"]:
        reason = "--device leaves no image that could be booted here"
        raise UsageError("cannot use", "--try", reason, hint="Leave --device out.")
    vm.check_programs()
    firmware.find_ovmf()


def check_password(request: Request) -> None:
    """Refuse a file that holds no password."""
    read_password(request.options)


REQUEST_CHECKS: tuple[Check[Request], ...] = (
    Check(("path",), check_confirmation),
    Check((), check_try),
    Check(("path",), check_disk),
    Check((), check_password),
    Check(("encrypt",), lambda request: passphrase.check_source(request.options)),
)


def find_refusals(
    request: Request, *, only_quick: bool = False, asked: Iterable[str] = (), last: str | None = ""
) -> list[Refusal]:
    """All that stands against a request.

    `only_quick`: but for what the first step of a build finds. With `last`: of the checks whose
    answers were `asked` for, those that this was the last one of; None: those that nobody is asked.
    """

    def is_meant(about: Iterable[str]) -> bool:
        return last == "" or find_last(about, asked) == last

    mine = [check for check in REQUEST_CHECKS if is_meant(check.about)]
    others = [check for check in checks.CHECKS if is_meant(check.about)]
    quick = [check for check in others if not check.is_first_step]
    slow = [] if only_quick else [check for check in others if check.is_first_step]
    known = [Check(check.about, functools.partial(_check_source, check)) for check in slow]
    return [
        *checks.find_refusals(mine, request),
        *checks.find_refusals(quick, request.plan),
        *checks.find_refusals(known, _keep_source(request.plan)),
    ]


def find_last(about: Iterable[str], asked: Iterable[str]) -> str | None:
    """The last question that something is about."""
    names = set(about)
    return next((name for name in reversed([*asked]) if name in names), None)


def default_cache() -> Path:
    """Where builds keep what the next one can use."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "ramos"


def read_epoch(text: str) -> int | None:
    """SOURCE_DATE_EPOCH: the time that everything in the image is to have."""
    if not text:
        return None
    if not text.isdecimal() or int(text) >= 1 << 32:
        raise UsageError("bad SOURCE_DATE_EPOCH", repr(text), "it is a number of seconds")
    return int(text)


def read_password(options: Options) -> bytes:
    """The user's password: typed, or from a file; empty where there is none."""
    path: Path | None = options["password_file"]
    if path is None:
        typed: bytes = options.get("password", b"")
        return typed
    try:
        password = path.read_bytes().removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise UsageError("cannot read password", path, error) from error
    if not password or b"\n" in password or b"\0" in password:
        raise UsageError("cannot use password", path, "it must hold one line of text")
    return password


def hash_password(password: bytes, epoch: int | None) -> str:
    """A password hashed as /etc/shadow wants it; empty where there is none."""
    if not password:
        return ""
    # A build that is to be the same each time needs the same salt each time.
    salt = [] if epoch is None else ["-salt", f"ramos{epoch}"]
    done = run.run(["openssl", "passwd", "-6", *salt, "-stdin"], stdin=password + b"\n")
    return done.text
