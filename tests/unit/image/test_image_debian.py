"""The Debian base: which mirrors it takes, the command it plans, and what its failures mean."""

from dataclasses import replace
from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.image import debian, debian_setup, debian_source
from ramos.image.plan import Origin, Plan

PLAN = Plan(
    base="debian",
    output=Path("/x/stick.img"),
    cache=Path("/x/cache"),
    profile="minimal",
    init="systemd",
)
SOURCE = Origin("bookworm", "http://mirror/debian", "deb http://mirror/debian bookworm main", "s")
ONE_LINE = """\
# a comment
deb http://mirror/debian bookworm main contrib # more
deb [arch=amd64 signed-by=/k/debian-archive-keyring.gpg] https://m/d bookworm-updates main
deb-src http://mirror/debian bookworm main
deb https://vendor.example/apt stable main
deb cdrom:[Debian]/ bookworm main
"""
DEB822 = """\
Types: deb deb-src
URIs: http://mirror/debian-security
# a comment inside
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://packages.vendor.example/
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/vendor.gpg

Enabled: no
Types: deb
URIs: http://old/debian
Suites: bookworm
Components: main
"""


def test_both_formats_of_apt() -> None:
    lines = list(debian_source.parse_one_line(ONE_LINE))
    assert [line.suite for line in lines][:2] == ["bookworm", "bookworm-updates"]
    assert lines[0].components == ("main", "contrib")
    assert lines[1].keyring == "/k/debian-archive-keyring.gpg"
    (security, vendor) = debian_source.parse_deb822(DEB822)
    assert security.suite == "bookworm-security"
    assert vendor.keyring.endswith("vendor.gpg")


def test_only_debian_itself_is_taken(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(ONE_LINE)
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "debian.sources").write_text(DEB822)
    (parts / "notes.txt").write_text("deb http://no/where bookworm main\n")
    lines = debian_source.read_machine_sources(tmp_path)
    chosen = [line for line in lines if debian_source.is_debian_source(line, "bookworm")]
    assert [line.uri for line in chosen] == [
        "http://mirror/debian",
        "https://m/d",
        "http://mirror/debian-security",
    ]


@pytest.fixture
def keyring(tmp_path: Path) -> Path:
    path = tmp_path / "keyring.gpg"
    path.touch()
    return path


def test_a_mirror_of_the_users_own(keyring: Path) -> None:
    asked = replace(PLAN, mirror="http://here/debian", release="trixie", keys=keyring)
    (line,) = debian_source.choose_sources(asked)
    assert line.text == f"deb [signed-by={keyring}] http://here/debian trixie main"


def test_a_machine_that_knows_no_mirror(tmp_path: Path, keyring: Path) -> None:
    with pytest.raises(RamosError, match="no Debian mirror") as caught:
        debian_source.choose_sources(replace(PLAN, keys=keyring), tmp_path)
    assert "--mirror" in caught.value.hint


def test_firmware_needs_what_is_not_free(keyring: Path) -> None:
    asked = replace(PLAN, mirror="http://here/debian", keys=keyring, firmware="common")
    (line,) = debian_source.choose_sources(asked)
    assert line.components == ("main", "non-free-firmware")


def test_a_missing_keyring_is_named() -> None:
    with pytest.raises(RamosError, match="/no/such/keyring"):
        debian_source.choose_sources(replace(PLAN, keys=Path("/no/such/keyring")))


def test_the_command(tmp_path: Path) -> None:
    downloads = tmp_path / "with space"
    argv = debian.plan_argv(PLAN, SOURCE, tmp_path / "tree", downloads, tmp_path / "s.deb")
    # What it mounts in the tree is seen by nobody else, and goes with it however it ends.
    assert argv[:4] == ["unshare", "--mount", "--", "mmdebstrap"]
    assert argv[-3:] == ["bookworm", str(tmp_path / "tree"), SOURCE.config]
    (include,) = [word for word in argv if word.startswith("--include=")]
    packages = include.removeprefix("--include=").split(",")
    assert {"linux-image-amd64", "busybox-static", "systemd-sysv", "python3-click"} <= set(packages)
    assert not {"testdisk", "openrc", "linux-image-cloud-amd64"} & set(packages)
    hooks = [word for word in argv if "-hook=" in word]
    assert all(f"'{downloads}'" in hook or "s.deb" in hook for hook in hooks)


def test_profiles_and_inits() -> None:
    rescue = debian.list_packages(replace(PLAN, profile="rescue"))
    assert {"testdisk", "gddrescue", "firmware-iwlwifi"} <= set(rescue)
    openrc = debian.list_packages(replace(PLAN, init="openrc", packages=("gparted",)))
    assert {"openrc", "gparted"} <= set(openrc)
    assert "systemd-sysv" not in openrc
    assert "path-exclude=/usr/share/man/*" in debian_setup.list_excludes(PLAN)
    assert "/usr/share/man" not in debian_setup.render_dpkg_config(replace(PLAN, profile="rescue"))


def test_the_first_consoles_of_systemd_log_in_by_themselves(tmp_path: Path) -> None:
    debian_setup.configure(replace(PLAN, user="ann", consoles=("tty0", "ttyS1,9600")), tmp_path)
    units = tmp_path / "etc/systemd/system"
    found = {path.parent.name: path for path in units.glob("*getty@*.d/ramos.conf")}
    assert set(found) == {"getty@tty1.service.d", "serial-getty@ttyS1.service.d"}
    lines = found["serial-getty@ttyS1.service.d"].read_text().splitlines()
    assert lines[:2] == ["[Service]", "ExecStart="]
    assert lines[2] == (
        r"ExecStart=-/sbin/agetty -o '-p -f -- \\u' --autologin ann"
        " --keep-baud 115200,57600,38400,9600 - $TERM"
    )


def test_with_a_password_systemd_asks_everywhere(tmp_path: Path) -> None:
    debian_setup.configure(replace(PLAN, password_hash="$6$a$b"), tmp_path)
    assert not list((tmp_path / "etc/systemd/system").glob("*getty@*.d"))


@pytest.mark.parametrize(("given", "gettys"), [("yes", 2), ("no", 0)])
def test_openrc_of_debian_logs_in_by_itself(tmp_path: Path, given: str, gettys: int) -> None:
    (tmp_path / "etc/init.d").mkdir(parents=True)
    (tmp_path / "etc/rc.conf").touch()
    debian_setup.configure(replace(PLAN, init="openrc", autologin=given), tmp_path)
    lines = (tmp_path / "etc/inittab").read_text().splitlines()
    found = [line.split(":")[0] for line in lines if "/sbin/getty --autologin user " in line]
    assert found == ["1", "S0"][:gettys]
    assert next(line for line in lines if line.startswith("2:")).endswith("getty 38400 tty2 linux")


@pytest.mark.parametrize("packages", [(), ("nfs-common",), ("rpcbind",)])
def test_no_port_listens_that_nobody_asked_for(tmp_path: Path, packages: tuple[str, ...]) -> None:
    units = tmp_path / "etc/systemd/system"
    wanted = [units / "sockets.target.wants/rpcbind.socket"]
    wanted += [units / "multi-user.target.wants/rpcbind.service"]
    for link in wanted:
        link.parent.mkdir(parents=True)
        link.symlink_to(f"/lib/systemd/system/{link.name}")
    debian_setup.configure(replace(PLAN, packages=packages), tmp_path)
    assert [link.is_symlink() for link in wanted] == [packages == ("rpcbind",)] * 2
    assert not (units / "rpcbind.socket").exists(), "what needs it can still start it"
    text = (tmp_path / "etc/systemd/resolved.conf.d/ramos.conf").read_text()
    assert text.splitlines() == ["[Resolve]", "LLMNR=no", "MulticastDNS=no"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("E: Unable to locate package nosuchpackage | E: apt-get failed", "nosuchpackage"),
        ("E: Package 'hfsprogs' has no installation candidate", "unknown package: hfsprogs"),
        ("W: GPG error: http://m InRelease: NO_PUBKEY 0E98404D386FA1D9", "cannot trust"),
        ("tar: write error: No space left on device", "disk full"),
        ("E: Failed to fetch http://m/pool/a.deb  404", "http://m/pool/a.deb"),
        ("something new", "something new"),
    ],
)
def test_failures_are_told_in_the_users_words(said: str, told: str) -> None:
    error = RamosError("command failed", "unshare", f"exit status 25: {said}")
    explained = str(debian.explain_failure(error, SOURCE))
    assert told in explained
    assert "unshare" not in explained


def test_an_unreachable_mirror_has_no_state(keyring: Path) -> None:
    asked = replace(PLAN, mirror="http://127.0.0.1:9/debian", keys=keyring)
    assert debian.resolve(asked).state == ""
    assert "127.0.0.1:9" in debian.probe(asked)


def test_an_unknown_release_is_named(tmp_path: Path, keyring: Path) -> None:
    mirror = tmp_path / "mirror"
    (mirror / "dists/bookworm").mkdir(parents=True)
    (mirror / "dists/bookworm/InRelease").write_text("Suite: bookworm\n")
    asked = replace(PLAN, mirror=str(mirror), keys=keyring)
    assert debian.resolve(replace(asked, release="bookworm")).state
    with pytest.raises(RamosError, match="bookwurm"):
        debian.resolve(replace(asked, release="bookwurm"))
