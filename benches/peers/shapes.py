"""What is timed: who takes part, how they are loaded, and what is to be reached against whom."""
from dataclasses import dataclass, field
from typing import Callable

import conformance, generators, machine, peers

MANY = 1_000_000


@dataclass
class Proxy:
    """Somebody who takes part. `sessions` are made through it before the first round; with `known` they were there."""

    name: str
    start: Callable
    sessions: int = 0
    known: bool = False
    cpus: list = field(default_factory=lambda: machine.ONE)
    port: int = 0
    process: object = None
    ids: str = ""            # a file, shuffled

    @property
    def pids(self):
        return machine.family(self.process.pid)


@dataclass
class Goal:
    """`metric` of ours divided by that of `peer` shall be `limit` at the most; None: nothing is asked, but it is told. With
    `adds`: what is more than that of `peer`, in microseconds."""

    metric: str
    peer: str
    limit: float | None
    ours: str = ""
    words: str = ""
    adds: bool = False


@dataclass
class Shape:
    """One way to load everybody in `who`, ours first. `twins`: the same peer twice, which shows the noise. `watch`: has
    `over`, whose figures come to those of a load."""

    key: str
    title: str
    who: list
    gate: Callable
    load: Callable
    goals: list
    twins: tuple
    saturates: bool = True
    watch: Callable | None = None


METRICS = {
    "cpu": "CPU per request",
    "p50": "median latency",
    "p99": "p99",
    "added_p50": "added median latency",
    "added_p99": "added p99",
    "time": "time per request",
}

OURS = "sessionbridge"
# Who is loaded where there is nobody to be held beside.
ALONE = {OURS, "sessionbridge TLS", "embedded"}


def proxies():
    """All who can take part, by name; none of them started yet."""
    nginx, haproxy, ours = peers.nginx, peers.haproxy, peers.sessionbridge
    tls = {"tls": True}

    def starter(make, **how):
        return lambda name, port, back: make(name.replace(" ", "-"), port, back, **how)

    every = [
        Proxy(OURS, starter(ours), sessions=peers.SESSIONS),
        Proxy("nginx", starter(nginx)),
        Proxy("nginx twin", starter(nginx)),
        Proxy("HAProxy", starter(haproxy)),
        Proxy("HAProxy tcp", starter(peers.haproxy_tcp)),
        Proxy("direct", lambda name, port, back: None, cpus=machine.REST),
        Proxy("sessionbridge 1M", starter(ours), sessions=MANY),
        Proxy("HAProxy map", starter(peers.haproxy_map), sessions=peers.SESSIONS, known=True),
        Proxy("nginx Lua", starter(peers.nginx_lua), sessions=peers.SESSIONS),
        Proxy("nginx Lua twin", starter(peers.nginx_lua), sessions=peers.SESSIONS),
        Proxy("sessionbridge TLS", starter(ours, **tls)),
        Proxy("nginx TLS", starter(nginx, **tls)),
        Proxy("nginx TLS twin", starter(nginx, **tls)),
        Proxy("HAProxy TLS", starter(haproxy, **tls)),
        Proxy("one thread", starter(ours, cpus=machine.TWO), cpus=machine.TWO),
        Proxy("one thread twin", starter(ours, cpus=machine.TWO), cpus=machine.TWO),
        Proxy("two threads", starter(ours, threads=2, cpus=machine.TWO), cpus=machine.TWO),
    ]
    return {proxy.name: proxy for proxy in every}


def shapes(seconds, rate):
    """Every shape there is; `rate` (requests a second) says what half of the capacity is."""
    plain = [OURS, "nginx", "nginx twin", "HAProxy", "HAProxy tcp", "direct"]
    tls = ["sessionbridge TLS", "nginx TLS", "nginx TLS twin", "HAProxy TLS"]
    twins, tls_twins = ("nginx twin", "nginx"), ("nginx TLS twin", "nginx TLS")
    loose = machine.TWO if not machine.ROOMY else machine.REST

    def wrk(path, connections, **how):
        return lambda to: generators.wrk(to.port, path, seconds, connections, ids=to.ids if path == "/c/x" else None, **how)

    def both(metric, limit):
        return [Goal(metric, "HAProxy", limit), Goal(metric, "nginx", limit)]

    def both_tls(haproxy, nginx):
        return [Goal("cpu", "HAProxy TLS", haproxy), Goal("cpu", "nginx TLS", nginx)]

    return [
        Shape("plain", "plain, 64 connections, 1 KiB", plain, conformance.plain, wrk("/plain/x", 64),
              [Goal("cpu", "HAProxy", 0.82), Goal("cpu", "nginx", 0.90)], twins),
        Shape("bridging", "bridging, 64 connections, 1 KiB, 100k sessions",
              [OURS, "HAProxy map", "nginx Lua", "nginx Lua twin", "sessionbridge 1M"], conformance.bridging, wrk("/c/x", 64),
              [Goal("cpu", "HAProxy map", 0.72), Goal("cpu", "nginx Lua", 0.58),
               Goal("cpu", OURS, 1.05, ours="sessionbridge 1M", words="1M sessions beside 100k")],
              ("nginx Lua twin", "nginx Lua")),
        Shape("big", "plain, 64 connections, 64 KiB", plain, conformance.big, wrk("/plain/big", 64), [Goal("cpu", "HAProxy", 0.75)], twins),
        Shape("one", "plain, 1 connection, 1 KiB", plain, conformance.plain, wrk("/plain/x", 1),
              both("added_p50", 0.9) + both("p99", 1.0), twins, saturates=False),
        Shape("thousand", "plain, 1000 connections, 1 KiB", plain, conformance.plain, wrk("/plain/x", 1000),
              [Goal("p99", "nginx", 1.0)], twins),
        Shape("half", f"plain, 48 connections, {rate:.0f} requests a second: half of the capacity", plain, conformance.plain,
              lambda to: generators.paced(to.port, "/plain/x", seconds, 48, rate), both("added_p99", 0.9), twins, saturates=False),
        Shape("tls", "TLS 1.3, 64 connections kept, 1 KiB", tls, conformance.tls, wrk("/plain/x", 64, tls=True), both_tls(0.70, 0.70), tls_twins),
        Shape("handshakes", "TLS 1.3, a full handshake for each request", tls, conformance.tls,
              lambda to: generators.handshakes(to.port, "/plain/x", seconds), both_tls(0.50, 0.50), tls_twins, saturates=False),
        Shape("h2", "HTTP/2 over TLS, 8 connections x 16 streams, 1 KiB", tls, conformance.h2,
              lambda to: generators.h2(to.port, "/plain/x", seconds, 8, 16), both_tls(0.95, 0.75), tls_twins),
        Shape("threads", "two worker threads, 64 connections, 1 KiB", ["two threads", "one thread", "one thread twin"], conformance.plain,
              wrk("/plain/x", 64, cpus=loose, threads=max(1, len(machine.REST) // 2)),
              [Goal("cpu", "one thread", 1.05)]
              + ([Goal("time", "one thread", 1 / 1.9, words="throughput of two threads >= 1.9 x that of one")] if machine.ROOMY else []),
              ("one thread twin", "one thread"), saturates=False),
    ]


# Bytes per idle connection, after one request, of processes that have done nothing else. (title, TLS, who, goal)
IDLE = [
    ("memory per idle connection, HTTP/1.1", False, [OURS, "nginx", "HAProxy"], 1142),
    ("memory per idle connection, TLS 1.3", True, ["sessionbridge TLS", "nginx TLS", "HAProxy TLS"], 16 * 1024),
]
