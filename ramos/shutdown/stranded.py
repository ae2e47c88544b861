"""Going down while the stick is out: nothing can be saved to it, and few programs can be started.

Owns: what ramosd does last, the talk on the consoles included. Refuses: saving to the stick: once
it is back, the save at shutdown does that as always. Invariant: the machine goes down, also when
nobody answers and when the programs that should do it are gone.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ramos import layout
from ramos.booted import Boot
from ramos.config import SaveConfig
from ramos.errors import RamosError
from ramos.layout import Places
from ramos.linux import run, terminals
from ramos.progress import OnProgress
from ramos.shutdown import deadline, finalsave, order
from ramos.shutdown.order import Outcome
from ramos.stick import watch
from ramos.stick.identity import Identity

OPENRC_STOPPING = Path("/run/openrc/rc.stopping")
SETTLED_FILE = layout.RUN_DIR / "settled"
ASK_SECONDS = 10.0
# Other services end without a disk that moves: a busy machine needs its time for them.
BEGIN_SECONDS = 300.0
END_SECONDS = 60.0


def leave(
    boot: Boot, known: Identity | None, config: SaveConfig, *, gone: bool, alone: bool
) -> None:
    """The last thing that ramosd does.

    Alone: no program could be started that would end the system, so it ends with us.
    """
    if has_last_word(gone=gone, alone=alone, going_down=is_going_down):
        outcome = go_down(boot, known, config, 0 if alone else END_SECONDS)
        if alone and outcome.result == "unchanged":
            run.run(["poweroff"], check=False)  # the stick is back
    elif OPENRC_STOPPING.exists():
        # A stick that does not answer would stop the next program, and only we need none.
        # systemd has limits of its own for each of its steps.
        deadline.start_deadline(BEGIN_SECONDS)


def has_last_word(*, gone: bool, alone: bool, going_down: Callable[[], bool]) -> bool:
    """Whether nothing after us can save: the stick is out at the end, or no program starts."""
    return alone or (gone and going_down())


def is_going_down() -> bool:
    """Whether the whole system ends, and not only the service that was told to."""
    if not deadline.SYSTEMD_MARK.exists():
        return OPENRC_STOPPING.exists()
    try:
        done = run.run(["systemctl", "is-system-running"], check=False, timeout_seconds=ASK_SECONDS)
    except (OSError, RamosError):
        return True  # who cannot be asked cannot have restarted a service either
    return done.text in ("stopping", "")


def go_down(boot: Boot, known: Identity | None, config: SaveConfig, end_seconds: float) -> Outcome:
    """Hold the way down until the stick is back, the changes are elsewhere, or all was tried."""
    consoles = order.Consoles(terminals.list_consoles(), finalsave.estimate)
    outcome = order.save_at_shutdown(
        boot,
        config,
        lambda on_progress: bring_back(boot, known, on_progress),
        lambda target, on_progress: finalsave.save_to(Places(), config, target, on_progress),
        consoles,
    )
    consoles.say(outcome.text)
    if outcome.result != "unchanged":
        SETTLED_FILE.write_text(outcome.result, encoding="ascii")
        deadline.start_deadline(end_seconds)
    return outcome


def bring_back(boot: Boot, known: Identity | None, on_progress: OnProgress) -> dict[str, Any]:
    """Use the stick again if it is in; the error if it is not."""
    node = watch.find_returned(known) if known else None
    state = "What is not saved is still in RAM"
    if node is None:
        hint = "Put the same stick back in, then retry."
        raise RamosError("cannot save to", layout.PERSIST_DIR, "it was pulled out", state, hint)
    if boot.luks:
        hint = "Save elsewhere. ('ramos reconnect' opens it, before the system goes down.)"
        raise RamosError("cannot open", node, "its passphrase is not known", state, hint)
    return {"text": watch.return_stick(node, on_progress)}


def was_settled() -> bool:
    """Whether all that can be done without the stick was done, and it is still out."""
    return SETTLED_FILE.exists() and not watch.is_there()
