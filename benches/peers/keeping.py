"""What keeping sessions costs: the same binary with its stores, side by side; the one that keeps nothing is the measure.

How it differs from the shapes of peers. The CPU of a load is that of the threads of the proxy from the load's first request
until all that the load has left to be written is written (clocks are written within five seconds), for everybody as long. A
load without changes brings, of 100,000 sessions in turn, each but once within these seconds: the clocks of each are to be
written for one request, which is the most that they can cost. What an idle proxy uses in that time is in everybody's figure, but
for the thread that answers operators: each of our looks at its metrics goes through all sessions, and who has something left to
be written is looked at more often. What the kernel does for the disk in threads of its own is in none. Stores
are on the disk that /var/tmp is on; the Valkey or Redis server runs where the origin and the generator do, and its CPU is
told apart.

Before anything is timed, one of each kind is started apart, learns two sessions, changes the tokens of one, is killed (-9)
as soon as the answer is there, and started again: who is to keep has to know both as they were last, who is not, neither.
A load whose changes were not all written counts as failed.
"""
import base64, functools, os, re, shutil, signal, statistics, tempfile, time, urllib.request

import conformance, generators, machine, peers
from shapes import Goal, Proxy, Shape

KEYS = ["keeping", "keeping-changes", "keeping-paced"]
SECONDS = 5              # of each load, unless told otherwise: the clocks are written at least once in it
SETTLED = 6              # seconds that what is left to be written gets, at the least
CONNECTIONS = 64
WHO = ["embedded", "valkey", "memory", "memory twin"]
SERVERS = ("valkey-server", "redis-server")
# Every how many requests one changes its session, and what a reader calls that.
LOADS = {"none": (0, "no request changes anything"), "tenth": (10, "one request of ten changes its session"),
         "all": (1, "every request changes its session")}

servers = []


@functools.cache
def folder():
    machine.scratch.append(tempfile.mkdtemp(prefix="peers-store-", dir="/var/tmp"))
    return machine.scratch[-1]


def server_binary():
    return next((name for name in SERVERS if shutil.which(name)), None)


@functools.cache
def server():
    """The port of a Valkey or Redis server of our own that keeps as packaging/compose has it; None where there is none."""
    if not (binary := server_binary()):
        return None
    port = machine.free_port()
    conf = machine.write("server.conf", f"""
bind 127.0.0.1
port {port}
dir {folder()}
save ""
appendonly yes
appendfsync everysec
auto-aof-rewrite-percentage 0
maxmemory-policy noeviction
""")
    process = machine.start("server", machine.REST, port, binary, conf)
    if process:
        servers.append(process)
    return process and port


def _memory(_name):
    return 'kind = "memory"'


def _embedded(name):
    return f'kind = "embedded", path = "{folder()}/{name}"'


def _valkey(name):
    """None where there is no server."""
    keys = os.path.join(folder(), "keys")
    if not os.path.exists(keys):
        with open(keys, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(f"k1 {base64.b64encode(os.urandom(32)).decode()}\n")
    port = server()
    return port and (f'kind = "valkey", keys_file = "{keys}", '
                     f'valkey = {{ urls = ["redis://127.0.0.1:{port}/0"], prefix = "{name}:" }}')


def _starter(store):
    def start(name, port, back):
        name = name.replace(" ", "-")
        if not (kept := store(name)):
            machine.last_words[name] = machine.last_words.get("server") or f"none of {', '.join(SERVERS)} is there"
            return None
        return peers.sessionbridge(name, port, back, store=kept)

    return start


def proxies():
    stores = {"embedded": _embedded, "valkey": _valkey, "memory": _memory, "memory twin": _memory}
    return {name: Proxy(name, _starter(stores[name]), sessions=peers.SESSIONS) for name in WHO}


def shapes(seconds, rate):
    """`rate` (requests a second): half of what "memory" can do."""
    # What a connection rests between two requests, in milliseconds, so that all together ask that often; an answer takes one.
    rest = CONNECTIONS * 1000 / rate - 1 if rate else 0

    def load(every, rest):
        how = ["/c/turn", every, f"{rest:.2f}"]
        return lambda to: generators.wrk(to.port, "/c/x", seconds, CONNECTIONS, ids=to.ids, how=how)

    def shape(key, what, speed, rest=0):
        every, words = LOADS[what]
        goals = [Goal("cpu", "memory", 1.10, ours="embedded"), Goal("p99", "memory", 2000, ours="embedded", adds=True),
                 Goal("cpu", "memory", 1.25, ours="valkey"), Goal("p99", "memory", None, ours="valkey", adds=True),
                 Goal("p50", "memory", None, ours="embedded", adds=True), Goal("p50", "memory", None, ours="valkey", adds=True)]
        return Shape(f"{key} {what}", f"{words}, {speed}", WHO, conformance.bridging, load(every, rest), goals,
                     ("memory twin", "memory"), saturates=not rest, watch=lambda proxy: Watch(proxy, every))

    full, half = "64 connections", f"64 connections, about {rate:,.0f} requests a second: half of the capacity"
    return [shape("keeping", "none", full), shape("keeping-changes", "tenth", full), shape("keeping-changes", "all", full),
            *(shape("keeping-paced", what, half, rest) for what in LOADS)]


def named(shape):
    """What the shape is called on the command line."""
    return shape.key.split()[0]


def capacity(memory):
    """Requests a second."""
    load = generators.wrk(memory.port, "/c/x", 2, CONNECTIONS, ids=memory.ids)
    return load.requests / load.seconds


@functools.cache
def survives(start, name, back):
    """What is wrong with how it keeps, or with how it does not."""
    spare, port, tokens = f"{name} spare", machine.free_port(), ["17654321", "27654321"]
    process = start(spare, port, back)
    if not process:
        return ["it did not start apart"]
    try:
        ids = conformance.learned(port, tokens)
        _, told, _ = conformance.get(port, "/c/turn/told", f"bridge={ids[0][0]}")
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = start(spare, port, back)
        if not process:
            return ["it did not start again"]
        seen = [conformance.get(port, "/c/seen", f"bridge={cookie}; theme=light")[1].get("X-Seen-Cookie") for cookie, _ in ids]
    finally:
        if process:
            machine.end(process)
    kept = [f"{told['X-Turned']}; theme=light", f"CFID={tokens[1]}; CFTOKEN={tokens[1]}; theme=light"]
    wanted = ["theme=light"] * 2 if name.startswith("memory") else kept
    return [] if seen == wanted else [f"killed and started again, it sends the app {seen}, not {wanted}"]


def metrics(name):
    """What the store says of itself: the numbers by their names."""
    with urllib.request.urlopen(f"http://127.0.0.1:{peers.admin[name.replace(' ', '-')]}/metrics", timeout=10) as answer:
        said = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r"^sessionbridge_store_(\w+) ([\d.e+-]+)$", said, re.M)}


def _settle(name):
    """Waits until nothing is left to be written."""
    time.sleep(SETTLED - 1)
    before, now = None, metrics(name)
    for _ in range(60):
        time.sleep(1)
        before, now = now, metrics(name)
        if now.get("waiting", 0) == 0 and all(now.get(what) == before.get(what) for what in ("records_total", "clocks_total")):
            return
    raise generators.Failed("its store does not come to rest")


class Watch:
    """What a load costs until all of it is written, and who of the proxy's threads had that CPU."""

    def __init__(self, proxy, every):
        self.proxy, self.every = proxy, every
        self.store = metrics(proxy.name)
        self.server = machine.cpu_ns([process.pid for process in servers])
        self.began, self.threads = time.monotonic_ns(), machine.cpu_by_thread(proxy.pids)

    def over(self, load):
        """Called at the load's end."""
        took, loaded = time.monotonic_ns() - self.began, self._since()
        _settle(self.proxy.name)
        threads = self._since()
        server = machine.cpu_ns([process.pid for process in servers]) - self.server
        store = metrics(self.proxy.name)
        written, clocks, groups = (store.get(what, 0) - self.store.get(what, 0)
                                   for what in ("records_total", "clocks_total", "commits_total"))
        keeps = not self.proxy.name.startswith("memory")
        if keeps and (store.get("failing") or self.every and written < 0.99 * load.requests / self.every):
            raise generators.Failed(f"{written:.0f} records were written for {load.requests} requests")

        def each(nanoseconds):
            return nanoseconds / load.requests / 1000

        def of(threads, *prefixes):
            return sum(spent for name, spent in threads.items() if name.startswith(prefixes))

        seconds = store.get("commit_seconds_total", 0) - self.store.get("commit_seconds_total", 0)
        serving = sum(threads.values()) - of(threads, "admin")
        return {"cpu": each(serving), "written": written / load.requests if keeps else None,
                "clocks": clocks / load.requests if keeps else None,
                "store": each(of(threads, "store")) if keeps else None, "share": of(loaded, "store") / took if keeps else None,
                "database": each(of(threads, "fjall")) if self.proxy.name == "embedded" else None,
                "server": each(server) if self.proxy.name == "valkey" else None,
                "group": (written + clocks) / groups if groups else None, "commit": seconds / groups * 1e3 if groups else None}

    def _since(self):
        now = machine.cpu_by_thread(self.proxy.pids)
        return {name: spent - self.threads.get(name, 0) for name, spent in now.items()}


@functools.cache
def disk():
    """What stores are on, and how long it takes to bring 4 KiB there: in words."""
    kind = machine.first_line("findmnt", "-no", "FSTYPE", "-T", folder()) or "of a kind unknown"
    path, took = os.path.join(folder(), "probe"), []
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        for _ in range(300):
            os.write(file, b"x" * 4096)
            began = time.monotonic()
            os.fdatasync(file)
            took.append(time.monotonic() - began)
    finally:
        os.close(file)
        os.unlink(path)
    took.sort()
    return f"{kind}; fdatasync after 4 KiB {statistics.median(took) * 1e3:.2f} ms (p99 {took[-4] * 1e3:.1f} ms)"
