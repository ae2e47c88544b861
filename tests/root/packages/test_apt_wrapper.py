"""The apt wrapper, the engine and the real apt in one go: what a user's words end in."""

from pathlib import Path

import pytest

from tests.labs.aptlab import RUNNING, System, make_system, set_engine
from tests.labs.debmirror import Mirror
from tests.labs.packagelab import NEW, OLD, add_firmware, add_kernel

KERNEL = f"linux-image-{RUNNING}"


def add_plain(mirror: Mirror, name: str, version: str = "1", **fields: str) -> None:
    """An ordinary package, in place of its older versions, with a configuration file."""
    for old in mirror.folder.glob(f"{name}_*.deb"):
        old.unlink()
    scripts = {"postinst": "#!/bin/sh\nexit 3\n"} if name == "broken" else None
    relations = {key.replace("_", "-"): value for key, value in fields.items()}
    mirror.add(
        {"Package": name, "Version": version, "Architecture": "all", **relations},
        {f"usr/share/plain/{name}": version.encode(), f"etc/plain/{name}": b"a=1\n"},
        scripts=scripts,
    )


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    (tmp_path / "upstream").mkdir()
    made = Mirror(tmp_path / "upstream/mirror")
    add_plain(made, "htop")
    made.publish()
    return made


@pytest.fixture
def system(tmp_path: Path, private_mounts: None, mirror: Mirror) -> System:
    del private_mounts
    made = make_system(tmp_path / "system", mirror)
    made.check("apt-get update -q")
    return made


# A line is one call; both systems go through all of them. NEWER changes the mirror.
CALLS = """
--version
bogus

update
update -q
list --installed
list htop -a
search top
show htop
policy htop
moo -h
install -s tree
install --simulate -qq tree nano
install htop
install -y tree
install -y htop nosuch
install htop=9 -y
install -y htop/nowhere
install -t nowhere -y htop
install -qq -o Dpkg::Options::=--force-confold nano
install -d -y deep
install --print-uris deep
install --bogus deep
install -Z deep
install -y
install deep
install --assume-no deep
install --trivial-only deep
install -y -V deep
install -y broken
remove -y broken
purge -y broken
install -y --no-install-recommends --reinstall htop
reinstall -y tree
install -y htop+ nano-
install -y nano tree_
install -y /nowhere/x.deb
install -y {mirror}/nano_1_all.deb
install -y ~nnan
install -y n[a]no
remove htop
remove -s htop
remove nosuch -y
remove -y tree
autoremove -s
autoremove -y
purge -y nano
satisfy -y htop
build-dep -y htop
clean
autoclean
check
-y install tree -- htop nano
NEWER
update
list --upgradable
install -y --only-upgrade nano deep
upgrade -s
upgrade --print-uris
upgrade -d -y
upgrade --assume-no
upgrade
upgrade -y -q=1 -o Debug::NoLocking=0
upgrade -y -o APT::Get::Show-Versions=1
dist-upgrade -y
full-upgrade -y
purge -y htop tree
remove -y nano+ deep
autopurge -y
"""


def test_ordinary_operations_end_as_without_the_wrapper(
    tmp_path: Path, private_mounts: None, mirror: Mirror
) -> None:
    del private_mounts
    systems = [make_system(tmp_path / name, mirror) for name in ("bare", "wrapped")]
    for name in ("nano", "broken"):
        add_plain(mirror, name)
    add_plain(mirror, "tree", Depends="htop")
    add_plain(mirror, "deep", Depends="tree, nano", Recommends="broken")
    mirror.publish()
    for made in systems:
        set_engine(made.root, "#!/bin/sh\nexit 0\n")
    codes = set()
    for number, line in enumerate(CALLS.format(mirror=mirror.folder).strip("\n").split("\n")):
        if line == "NEWER":
            add_plain(mirror, "htop", "2")
            add_plain(mirror, "nano", "2", Depends="htop (>= 2)")
            mirror.publish()
            continue
        program = ("apt", "apt-get")[number % 2]
        bare, wrapped = systems
        expected = bare.call(f"/usr/bin/{program} {line}")
        assert wrapped.call(f"{program} {line}") == expected, line
        assert wrapped.databases() == bare.databases(), line
        codes.add(expected[0])
    assert codes == {0, 1, 100}


def test_a_kernel_comes_and_goes_by_apt(system: System, mirror: Mirror) -> None:
    add_kernel(mirror, OLD, "6.1.1-1")
    mirror.publish()
    told = system.check("apt-get install -s linux-image-test htop")
    assert "kernel" in told
    assert "Inst htop" in told
    assert system.status("linux-image-test") == ""
    told = system.check("apt-get install -y linux-image-test/ramos htop")
    assert f"kernel {OLD} is tried at the next boot" in told
    assert (system.status("linux-image-test"), system.status("htop")) == ("ii 6.1.1-1", "ii 1")
    assert system.call("apt-get reinstall -y linux-image-test htop")[0] == 0
    add_kernel(mirror, NEW, "6.1.2-1")
    add_plain(mirror, "htop", "2")
    mirror.publish()
    told = system.check("apt update")
    assert "\n  linux-image-test 6.1.2-1\n'apt upgrade' brings them" in told
    assert f"linux-image-{NEW} (new) -> 6.1.2-1" in system.check("apt-get -s upgrade")
    check_questions(system)
    told = system.check("apt-get -y dist-upgrade")
    assert f"kernel {NEW} is tried at the next boot" in told
    assert (system.status("linux-image-test"), system.status("htop")) == ("ii 6.1.2-1", "ii 2")
    assert "that are newer" not in system.check("apt update")
    assert "nothing to do: no mirror has anything newer" in system.check("apt full-upgrade -y")
    check_removal(system)


def check_questions(system: System) -> None:
    """Each list has its question, and no answer is none."""
    before = system.databases()
    for answers in ("n\n", ""):
        code, out, err = system.call("apt upgrade", answers)
        assert (code, "linux-image-test 6.1.1-1 -> 6.1.2-1" in out) == (1, True)
        assert out.endswith("Bring these special packages? [Y/n] ")
        assert "nobody agreed" in err
        assert "stops here, before any ordinary package" in err
    assert system.databases() == before
    assert system.call("apt upgrade --assume-no")[0] == 1
    assert system.databases() == before


def check_removal(system: System) -> None:
    """By a pattern, which only the real apt knows; then what is not there, which is no error."""
    code, out, err = system.call("apt-get remove linux-image-6.1.0-[12]-test htop", "y\n")
    assert code == 0, out + err
    for kernel in (OLD, NEW):
        assert not (system.root / f"persist/modules-{kernel}.squashfs").exists()
        assert system.status(f"linux-image-{kernel}")[:2] != "ii"
    assert system.status("htop") == ""
    assert "is not installed, so not removed" in system.check(f"apt remove linux-image-{NEW}")


def test_autoremove_leaves_special_packages_alone(system: System, mirror: Mirror) -> None:
    add_kernel(mirror, OLD, "6.1.1-1")
    add_plain(mirror, "needs", Depends="htop")
    mirror.publish()
    system.check(f"apt install -y linux-image-{OLD} needs")
    system.check(f"apt-mark auto linux-image-{OLD} needs htop")
    settings = system.root / "etc/apt/apt.conf.d/80ramos"
    text = settings.read_text()
    settings.write_text("".join(f"{line}\n" for line in text.splitlines() if "Never" not in line))
    assert f"Remv linux-image-{OLD}" in system.check("/usr/bin/apt-get -s autoremove")
    settings.write_text(text)
    system.check("apt autoremove -y")
    assert system.status("htop")[:2] != "ii"
    assert system.status(f"linux-image-{OLD}") == "ii 6.1.1-1"
    told = system.check(f"apt autoremove -y linux-image-{OLD}")
    assert f"kernel {OLD} was removed from the stick" in told


def test_what_an_ordinary_package_needs_comes_by_the_engine(system: System, mirror: Mirror) -> None:
    add_firmware(mirror, "1", {"a.bin": b"a"})
    add_plain(mirror, "needs", Depends="firmware-test, htop")
    mirror.publish()
    system.check("apt-get update")
    code, out, err = system.call("apt-get install needs", "y\n")
    assert code == 0, out + err
    assert out.count("Do you want to continue?") == 1, "what was answered is not asked again"
    for name in ("needs", "htop", "firmware-test"):
        assert system.status(name) == "ii 1"
    assert not (system.root / "usr/lib/firmware/a.bin").exists()
    assert "done: firmware-test=1" in out
    assert not list((system.root / "run/ramos").glob("apt-refused*"))
    before = system.databases()
    code, _, err = system.call("/usr/bin/apt-get remove -y firmware-test")
    assert (code, "hint: ramos pkg remove firmware-test" in err) == (100, True)
    assert system.databases() == before


def test_what_is_purged_leaves_no_configuration(system: System, mirror: Mirror) -> None:
    fields = {"Package": "initramfs-tools", "Version": "1", "Architecture": "all"}
    file = "etc/initramfs-tools/initramfs.conf"
    mirror.add(fields, {file: b"a=1\n"}, scripts={"conffiles": f"/{file}\n"})
    mirror.publish()
    for words in ("purge -y", "--purge -y remove", "remove -y", "purge -y"):
        if "purge" not in words or system.status("initramfs-tools") == "":
            system.check("apt-get install -y initramfs-tools")
        system.check(f"apt-get {words} initramfs-tools")
        assert system.status("initramfs-tools") == ("rc 1" if "purge" not in words else "")
        assert (system.root / file).exists() == ("purge" not in words)


def test_what_is_refused_leaves_everything_as_it_was(system: System, mirror: Mirror) -> None:
    add_kernel(mirror, RUNNING, "6.1.1-1", meta=False)
    add_kernel(mirror, NEW, "6.1.2-1", meta=False)
    add_firmware(mirror, "1", {"a.bin": b"a"})
    mirror.publish()
    system.check(f"apt install -y {KERNEL} htop")
    before = system.databases()
    local = mirror.folder / "firmware-test_1_all.deb"
    for line, status, words in (
        (f"apt remove -y {KERNEL} htop", 2, "last kernel"),
        ("apt-get purge -y linux-image-[0-9]* htop", 2, "last kernel"),
        (f"apt install -y {KERNEL}=1 htop", 1, "no mirror has it"),
        ("apt install -y linux-image-none htop", 1, "linux-image-none"),
        (f"apt install -y linux-image-{NEW}/nowhere", 100, "'nowhere'"),
        (f"apt install -y {local}", 100, "hint: ramos pkg add firmware-test"),
        ("/usr/bin/apt install -y firmware-test", 100, "hint: ramos pkg add"),
    ):
        code, out, err = system.call(line)
        assert (code, words in err) == (status, True), f"{line}: {code}\n{out}\n{err}"
        assert system.databases() == before, line


def test_without_a_network_and_without_rights(system: System, mirror: Mirror) -> None:
    add_plain(mirror, "htop", "2")
    mirror.publish()
    system.check("apt-get update")
    system.cut_network()
    for words in ("apt upgrade -y", "apt-get -s dist-upgrade", "apt install firmware-x htop"):
        code, out, err = system.call(words)
        assert (code, out) == (1, ""), out + err
        assert "this system is offline" in err
        assert "stops here, before any ordinary package" in err
    assert system.status("htop") == ""
    system.check("/usr/bin/apt-get -y upgrade")
    system.check("apt install -y htop")
    nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    for words in ("list", "-s upgrade", "upgrade", "install firmware-x", "-s remove htop"):
        bare, wrapped = (
            system.call(f"{nobody} {program} {words}") for program in ("/usr/bin/apt", "apt")
        )
        assert wrapped == bare


def test_what_a_cut_left_is_undone_at_boot(system: System, mirror: Mirror) -> None:
    """And the logins are told; apt has nothing to complain about then."""
    add_kernel(mirror, NEW, "6.1.2-1")
    mirror.publish()
    system.check("apt-get update -q")
    cut = system.call(
        "ramos pkg add linux-image-test", RAMOS_CRASH_AT="publish-after-rename:Packages"
    )
    assert cut[0] == -9, cut
    told = system.check("ramos pkg recover --at-boot")
    undone = f"undid what was interrupted: linux-image-{NEW}=6.1.2-1, linux-image-test=6.1.2-1"
    assert sorted(told.replace(", ", " ").split()) == sorted(undone.replace(", ", " ").split())
    assert (system.root / "run/ramos/motd").read_text() == f"RAMOS: {told}"
    system.check("apt-get update -q -o APT::Update::Error-Mode=any")
    assert system.check("ramos pkg recover") == "nothing was interrupted\n"
    assert system.check("ramos pkg recover --at-boot") == ""
    assert "done: " in system.check("ramos pkg add linux-image-test")


# Each matches a recipe's pattern, and is taken out again.
LOOKS_SPECIAL = ("firmware-tomu", "firmware-microbit-micropython", "linux-image-6.1-dbg")


def test_what_only_looks_special_is_ordinary(system: System, mirror: Mirror) -> None:
    """It comes, is upgraded and goes as any package does."""
    for version in ("1", "2"):
        for name in LOOKS_SPECIAL:
            add_plain(mirror, name, version)
        mirror.publish()
        system.check("apt-get update -q")
        if version == "1":
            system.check(f"apt-get install -y {' '.join(LOOKS_SPECIAL)}")
        system.check("apt-get upgrade -y")
        assert [system.status(name) for name in LOOKS_SPECIAL] == [f"ii {version}"] * 3
    system.check(f"apt-get remove -y {' '.join(LOOKS_SPECIAL)}")
    assert not [name for name in LOOKS_SPECIAL if system.status(name).startswith("ii")]
