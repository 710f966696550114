"""A `sluice run` that is told to stop while another one takes over, on either side."""
import os
import signal

import pytest

from harness import eventually
from lasting_clients import Load, http1, layer4, new_connections, websocket
from netns import Thread
from test_take_over import POLICY, Pod, Successor, goes_on, net, policy, through_the_node, to_the_bound  # noqa: F401


def begun(net):
    """The next pod, whose gateway has been started and stands still before it serves."""
    routes = "".join(f"  - {{ listener: web, path: /of-many/{number}, upstream: origin }}\n" for number in range(5000))
    pod = Pod(net, "pod-1", policy(net, POLICY.replace("routes:\n", "routes:\n" + routes)), wait=False)
    eventually(lambda: "gateway started" in pod.output(), "it begins")
    os.kill(gateway_of(pod), signal.SIGSTOP)
    assert "took over" not in pod.output()
    return pod


def gateway_of(pod):
    keeper = pod.children()[0]
    with open(f"/proc/{keeper}/task/{keeper}/children") as children:
        return int(children.read().split()[0])


def terminate(pod):
    """SIGTERM to sluice itself, which `unshare` does not pass on."""
    os.kill(pod.children()[0], signal.SIGTERM)


def has_ended(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] in "XZ"
    except FileNotFoundError:
        return True


def drain(pod):
    pod.ctl("drain", check=False)


def ends(pod):
    eventually(lambda: pod.process.poll() is not None, f"{pod.name} ends; it said:\n{pod.output()}")
    return pod.process.returncode


def test_one_that_is_told_to_stop_before_it_serves_leaves_the_first_serving(net):  # noqa: F811
    first = Pod(net, "pod-0", policy(net))
    first.ctl("ban", "198.51.100.7", "--for", "1h")
    load = Load(net, http1, new_connections, to_the_bound, through_the_node, layer4, websocket)
    second = begun(net)
    terminate(second)
    assert ends(second) == 0
    assert "took over" not in second.output() and "stopping" in second.output()
    assert "198.51.100.7" in first.ctl("bans").stdout
    goes_on(net, first, load)


@pytest.mark.parametrize("tell", [terminate, drain])
def test_one_that_is_told_to_stop_while_it_hands_over_does_so_first(net, tell):  # noqa: F811
    first = Pod(net, "pod-0", policy(net))
    load = Load(net, http1, new_connections, to_the_bound, through_the_node)
    second = begun(net)
    teller = Thread(net.node, lambda: tell(first))  # `drain` waits
    eventually(lambda: "stopping once the other sluice serves" in first.output(), "it is told so meanwhile")
    os.kill(gateway_of(second), signal.SIGCONT)
    second.wait_until_ready()
    assert ends(first) == 0
    teller.result()
    assert "interception ends" not in first.output()
    before = dict(load.done)
    eventually(lambda: all(load.done[kind] > before[kind] for kind in before), "everybody goes on with the next one")
    load.stop()
    assert load.failures == []
    assert second.is_ready()


def test_one_that_is_told_to_stop_after_the_first_has_died_leaves_nothing(net):  # noqa: F811
    first = Pod(net, "pod-0", policy(net))
    second = begun(net)
    died = first.children()[0]
    first.kill()
    eventually(lambda: has_ended(died), "nothing of it is left")
    terminate(second)
    assert ends(second) == 0
    assert "interception ends" in second.output()
    assert "origin, called from 10.71.0.2" in net.curl("http://10.72.0.2:8080/"), "what was caught flows straight"


@pytest.mark.parametrize("words", [[], ["release"]])
def test_one_that_is_told_to_stop_stops_when_nobody_takes_over_after_all(net, words):  # noqa: F811
    first = Pod(net, "pod-0", policy(net))
    successor = Successor.with_all(net)
    for word in words:
        successor.say(word)
    terminate(first)
    eventually(lambda: "stopping once the other sluice serves" in first.output(), "it is told so meanwhile")
    assert "origin, called from" in net.curl("http://203.0.113.7/"), "it serves on"
    successor.socket.close()
    assert ends(first) == 0
    assert "interception ends" in first.output()
    assert net.curl("http://203.0.113.7/") is None
    assert "origin, called from 10.71.0.2" in net.curl("http://10.72.0.2:8080/"), "what was caught flows straight"


def test_one_that_is_told_twice_does_not_wait_for_the_other(net):  # noqa: F811
    first = Pod(net, "pod-0", policy(net))
    successor = Successor.with_all(net)
    terminate(first)
    eventually(lambda: "stopping once the other sluice serves" in first.output(), "it is told so meanwhile")
    terminate(first)
    assert ends(first) == 0
    successor.socket.close()
