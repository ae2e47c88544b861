"""The command line of a machine."""

from pathlib import Path

import pytest

from ramos.vm.qemu import VmHost, VmPlan, render_argv


@pytest.mark.parametrize("network", [False, True])
def test_a_machine_has_a_network_where_it_was_asked_for(network: bool) -> None:
    plan = VmPlan(Path("x.img"), firmware="bios", network=network)
    argv = render_argv(plan, VmHost(Path("/tmp/scratch"), kvm=False))
    assert ("user,model=virtio-net-pci" in argv) is network
