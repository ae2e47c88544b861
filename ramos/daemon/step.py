"""What ramosd does about what happens: the decisions, without the doing.

Owns: the state of the daemon and `step(state, event) -> (state, actions)`. Refuses: files, clocks,
processes (an event brings the time and the numbers it was measured with). Invariants: the swapfile
is never used while layers are mounted from the stick, nor while the stick is gone; at most one job
of a kind runs at a time; whatever people must know is told once.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, assert_never

from ramos.booted import ToRam
from ramos.config import Config
from ramos.daemon import autosave, pressure
from ramos.daemon.autosave import Autosave
from ramos.daemon.events import (
    Action,
    BatteryChanged,
    Event,
    JobDone,
    Leave,
    LidClosed,
    LinksChanged,
    Log,
    Measured,
    MeetStick,
    MountsChanged,
    Note,
    PowerPressed,
    Reload,
    Return,
    Save,
    Start,
    StickGone,
    StickSeen,
    SyncLinks,
    Task,
    Tell,
)

IDLE_TICK_SECONDS = 20.0
BUSY_TICK_SECONDS = 2.0
GROWTH_PERCENT = 1.0
SETTLE_SECONDS = 600.0
# After the boot is over and before anybody calls the system idle.
SEAL_SECONDS = 90.0
TO_RAM_SECONDS = 60.0
DAY_SECONDS = 86400

Swap = Literal["off", "starting", "on", "stopping"]
Stick = Literal["present", "gone"]
Seal = Literal["needed", "running", "done"]
Copies = Literal["no", "waiting", "running", "done", "failed"]


@dataclass(frozen=True)
class State:
    """All that ramosd remembers."""

    config: Config = field(default_factory=Config)
    swap_allowed: bool = True
    reads_stick: bool = True
    luks: bool = False
    swap: Swap = "off"
    calm_since: float = -1.0
    short_told: bool = False
    fill_percent: float = 0.0
    fill_level: int = 0
    stick: Stick = "present"
    released: bool = False
    ejected: bool = False
    returning: bool = False
    seal: Seal = "done"
    toram: Copies = "no"
    toram_bytes: int = 0
    scrubbing: bool = False
    asks_growth: bool = False
    # Saving by itself; never in clean mode.
    clean: bool = False
    saves: Autosave = field(default_factory=Autosave)
    next_scrub: float = 0.0
    tick_seconds: float = IDLE_TICK_SECONDS


Decided = tuple[State, list[Action]]


def step(state: State, event: Event) -> Decided:
    """What to remember and what to do."""
    match event:
        case Measured():
            return _measured(state, event)
        case StickGone():
            return _stick_gone(state, event)
        case StickSeen():
            return _stick_seen(state, event)
        case MountsChanged():
            return _mounts_changed(state, event)
        case Reload():
            return replace(state, config=event.config), [SyncLinks()]
        case PowerPressed():
            return state, [Start(Task.POWER_OFF)]
        case LidClosed():
            return _lid_closed(state)
        case BatteryChanged():
            return _battery_changed(state, event)
        case JobDone():
            return _job_done(state, event)
        case LinksChanged():
            return state, [SyncLinks()] if state.config.links.enabled else []
        case _:
            assert_never(event)


def _measured(state: State, event: Measured) -> Decided:
    grows = event.fill_percent > state.fill_percent + GROWTH_PERCENT
    state, actions = _decide_swap(state, event)
    state, told = _decide_fill(state, event.fill_percent)
    state, seals = _decide_seal(state, event.now)
    state, copies = _decide_copies(state, event)
    state, scrubs = _decide_scrub(state, event.now)
    state, saves = _decide_save(state, event)
    near = event.memory.available_percent < 2 * state.config.memory.swap_on_percent
    busy = grows or near or state.swap != "off" or bool(state.saves.due)
    tick = BUSY_TICK_SECONDS if busy else IDLE_TICK_SECONDS
    return replace(state, tick_seconds=tick), [*actions, *told, *seals, *copies, *scrubs, *saves]


def _decide_swap(state: State, event: Measured) -> Decided:
    config = state.config.memory
    short = pressure.wants_swap(event.memory, config)
    if state.swap == "off" and short:
        if state.swap_allowed and state.stick == "present":
            return replace(state, swap="starting", calm_since=-1.0), [Start(Task.SWAP_ON)]
        return _tell_short(state, event)
    if state.swap == "on":
        if not pressure.is_calm(event.memory, config):
            return replace(state, calm_since=-1.0), []
        if state.calm_since < 0:
            return replace(state, calm_since=event.now), []
        if event.now - state.calm_since >= pressure.CALM_SECONDS:
            return replace(state, swap="stopping", calm_since=-1.0), [Start(Task.SWAP_OFF)]
    if not short:
        return replace(state, short_told=False), []
    return state, []


def _tell_short(state: State, event: Measured) -> Decided:
    if state.short_told:
        return state, []
    why = "the stick is gone" if state.stick != "present" else "layers are mounted from the stick"
    text = (
        f"memory is nearly out ({event.memory.available_percent:.0f} % left) and the swapfile "
        f"cannot be used: {why}. Close something."
    )
    return replace(state, short_told=True), [Tell(text)]


def _decide_fill(state: State, fill_percent: float) -> Decided:
    level = pressure.find_level(fill_percent, state.config.memory.warn_percent, state.fill_level)
    actions: list[Action] = []
    if level > state.fill_level:
        end = (
            "'ramos commit' saves it but does not free it; 'ramos usage' shows what takes the room."
        )
        actions.append(
            Tell(f"{fill_percent:.0f} % of the room in RAM for your changes is taken. {end}")
        )
        if not state.asks_growth and (state.stick == "present" or not state.reads_stick):
            actions.append(Start(Task.GROWTH))
            state = replace(state, asks_growth=True)
    return replace(state, fill_percent=fill_percent, fill_level=level), actions


def _decide_seal(state: State, now: float) -> Decided:
    if state.seal != "needed" or now < SEAL_SECONDS or state.stick != "present":
        return state, []
    return replace(state, seal="running"), [Start(Task.SEAL)]


def _decide_copies(state: State, event: Measured) -> Decided:
    """To RAM, once the stick has nothing else to do, and as long as there is room."""
    wanted = state.config.memory.toram
    due = 0.0 if wanted == ToRam.NOW else TO_RAM_SECONDS
    if state.toram != "waiting" or wanted == ToRam.NO or event.now < due:
        return state, []
    if state.stick != "present" or state.returning or state.scrubbing or state.seal != "done":
        return state, []
    if not pressure.has_room(event.memory, state.toram_bytes):
        return state, []
    return replace(state, toram="running"), [Start(Task.TO_RAM)]


def _decide_scrub(state: State, now: float) -> Decided:
    due = now >= max(state.next_scrub, SETTLE_SECONDS)
    if not due or state.scrubbing or state.stick != "present":
        return state, []
    next_scrub = now + state.config.health.scrub_days * DAY_SECONDS
    return replace(state, scrubbing=True, next_scrub=next_scrub), [Start(Task.SCRUB)]


def _decide_save(state: State, event: Measured) -> Decided:
    """One that is due: now, a little later, or not at all."""
    saves = autosave.look(state.saves, event.now, event.writing, state.config.save)
    reason, skipped = saves.due, _find_obstacle(state, saves)
    if not reason or saves.running:
        return replace(state, saves=saves), []
    if skipped:
        saves = replace(saves, due="", since=event.now, postponed=False)
        return replace(state, saves=saves), [Log(f"no save ({reason}): {skipped}")]
    if saves.busy:
        told = Log(f"the save ({reason}) is postponed: much is being written")
        actions: list[Action] = [] if saves.postponed else [told]
        return replace(state, saves=replace(saves, postponed=True)), actions
    saves = replace(saves, due="", since=event.now, running=True, postponed=False)
    return replace(state, saves=saves), [Start(Save(reason))]


def _find_obstacle(state: State, saves: Autosave) -> str:
    """Why nothing is saved at all."""
    if state.clean:
        return "the system runs in clean mode"
    if state.stick != "present":
        return "the stick is gone"
    return "a rollback waits for the reboot" * saves.writing.rollback_waits


def _lid_closed(state: State) -> Decided:
    if not state.config.save.on_lid_close:
        return state, []
    return replace(state, saves=autosave.ask(state.saves, autosave.LID)), []


def _battery_changed(state: State, event: BatteryChanged) -> Decided:
    saves, is_news = autosave.weigh_battery(
        state.saves, event.percent, discharging=event.discharging
    )
    if is_news and state.config.save.on_battery_low:
        saves = autosave.ask(saves, autosave.BATTERY)
    return replace(state, saves=saves), []


def _save_done(state: State, event: JobDone) -> Decided:
    """The words of an error may name any file: the records have them, for root."""
    is_news = bool(event.error) and not state.saves.failed
    saves = replace(state.saves, running=False, failed=bool(event.error))
    text = "a save by itself has failed: 'sudo ramos status' says why."
    return replace(state, saves=saves), [Tell(text)] if is_news else []


def _stick_gone(state: State, event: StickGone) -> Decided:
    if state.stick == "gone":
        return replace(state, ejected=False), []
    if event.released:
        return replace(state, stick="gone", released=True), []
    words = ["the stick was pulled out. Nothing can be saved until it is back."]
    if state.reads_stick:
        words.append("Programs that are not in memory yet cannot be started.")
    words.append("What you did is still in RAM: put the same stick back in.")
    actions: list[Action] = [Tell(" ".join(words)), Note("stick", "pulled out")]
    if state.swap in ("on", "starting"):
        actions.append(Start(Task.SWAP_OFF))
        state = replace(state, swap="stopping")
    return replace(state, stick="gone"), actions


def _stick_seen(state: State, event: StickSeen) -> Decided:
    if state.stick == "present" or state.returning or state.ejected:
        return state, []
    if not event.same:
        text = f"the stick at {event.node} is not the one this system was started from. Not used."
        return state, [Tell(text), Note("stick", f"another stick at {event.node}")]
    if state.luks:
        text = "the stick is back. It is encrypted: 'ramos reconnect' asks for its passphrase."
        return state, [Tell(text)]
    return replace(state, returning=True), [Start(Return(event.node))]


def _mounts_changed(state: State, event: MountsChanged) -> Decided:
    """Commands let go of the stick, once nothing is read from it, and take it back."""
    if state.stick == "present" and not event.mounted:
        state = replace(state, stick="gone", ejected=True, swap="off", reads_stick=False)
        return replace(state, toram="done"), []
    if state.stick == "gone" and event.there and not state.returning:
        return replace(state, stick="present", ejected=False), [MeetStick(), SyncLinks()]
    return state, []


def _job_done(state: State, event: JobDone) -> Decided:
    error = event.error
    failed: list[Action] = [Note(str(event.job), error)] if error else []
    match event.job:
        case Task.SETUP | Task.PUBLISH:
            return state, failed
        case Task.SWAP_ON:
            if state.swap != "starting":
                return state, failed
            state = replace(state, swap="off" if error else "on")
            if error or state.reads_stick:
                return state, failed + _tell_error("the swapfile cannot be used", error)
            text = "memory is nearly out: the swapfile on the stick is in use. Leave the stick in."
            return state, [Tell(text)]
        case Task.SWAP_OFF:
            kept = error and state.stick == "present"
            return replace(state, swap="on" if kept else "off"), failed
        case Task.SEAL:
            told = _tell_error("the check of the base images failed", error)
            return replace(state, seal="done"), failed + told
        case Task.TO_RAM:
            return _copies_done(state, event)
        case Task.SCRUB:
            told = _tell_error("the check of the stick found damage", error)
            return replace(state, scrubbing=False), failed + told
        case Task.GROWTH:
            return replace(state, asks_growth=False), failed + [Tell(event.text)] * bool(event.text)
        case Task.POWER_OFF:
            alone = error and state.stick == "gone"
            return state, [*failed, Leave()] if alone else failed
        case Save():
            return _save_done(state, event)
        case Return():
            return _return_done(replace(state, returning=False), event)
        case _:
            assert_never(event.job)


def _return_done(state: State, event: JobDone) -> Decided:
    if event.error:
        told = _tell_error("the stick is back but cannot be used", event.error)
        return state, [Note(str(event.job), event.error), *told]
    back: list[Action] = [] if state.released else [Tell(event.text)]
    again: Copies = "waiting" if state.toram == "failed" else state.toram
    state = replace(state, stick="present", released=False, toram=again)
    return state, [*back, MeetStick(), SyncLinks()]


def _copies_done(state: State, event: JobDone) -> Decided:
    if not event.error:
        state = replace(state, toram="done", reads_stick=False, swap_allowed=True)
        return state, [Tell(event.text)]
    told: list[Action] = [] if state.stick == "gone" else [Tell(event.error)]
    return replace(state, toram="failed"), [Note(str(event.job), event.error), *told]


def _tell_error(what: str, error: str) -> list[Action]:
    return [Tell(f"{what}: {error}")] if error else []
