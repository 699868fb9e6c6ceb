"""The generators, wrk and h2load, and what they say: requests, seconds, latencies. What met an error is no figure."""
import os, re, subprocess, time

import machine

HERE = os.path.dirname(os.path.abspath(__file__))
UNITS = {"us": 1, "ms": 1e3, "s": 1e6, "m": 60e6}


class Failed(Exception):
    """The generator met an error, or something other than 2xx."""


class Load:
    """What one run of a generator counted; latencies in microseconds, None where it does not tell."""

    def __init__(self, requests, seconds, p50=None, p99=None):
        self.requests, self.seconds, self.p50, self.p99 = requests, seconds, p50, p99


def _run(argv, cpus, limit):
    pinned = ["taskset", "-c", ",".join(map(str, cpus)), *map(str, argv)]
    done = subprocess.run(pinned, capture_output=True, text=True, timeout=limit, cwd=machine.WORK)
    if done.returncode:
        raise Failed((done.stdout + done.stderr)[-300:])
    return done.stdout


def _latency(out, percentile):
    number, unit = re.search(rf"^ +{percentile}%\s+([\d.]+)(\w+)", out, re.M).groups()
    return float(number) * UNITS[unit]


def wrk(port, path, seconds, connections, ids=None, tls=False, cpus=machine.REST, threads=1, how=()):
    """As fast as it goes, each connection with one request in flight; with a file of ids, each request carries one, and
    `how` says the rest to load.lua."""
    url = f"{'https' if tls else 'http'}://localhost:{port}{path}"
    script = ["-s", os.path.join(HERE, "load.lua"), url, "--", path, ids, *how] if ids else [url]
    out = _run(["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--latency", *script], cpus, seconds + 60)
    if re.search(r"Non-2xx|Socket errors", out):
        raise Failed(re.search(r".*(Non-2xx|Socket errors).*", out)[0].strip())
    requests, took, unit = re.search(r"(\d+) requests in ([\d.]+)(\w+),", out).groups()
    if not int(requests):
        raise Failed(f"no request was answered in {took}{unit}")
    return Load(int(requests), float(took) * UNITS[unit] / 1e6, _latency(out, 50), _latency(out, 99))


def fill(port, sessions, path, limit=900):
    """Makes sessions through a proxy, as browsers would, and writes their ids; gives up after `limit` seconds."""
    script = ["-s", os.path.join(HERE, "fill.lua"), f"http://localhost:{port}/c/x", "--", sessions, path]
    _run(["wrk", "-t1", "-c64", f"-d{limit}s", *script], machine.REST, limit + 60)
    with open(path) as file:
        made = sum(1 for _ in file)
    if made < sessions:
        raise Failed(f"{made} sessions of {sessions} could be made")


def _h2load(argv, port, path, tls, limit):
    out = _run(["h2load", "-t1", *argv, f"--connect-to=127.0.0.1:{port}",
                f"{'https' if tls else 'http'}://localhost:{port}{path}"], machine.REST, limit)
    asked, good = map(int, re.search(r"requests: (\d+) total.* (\d+) succeeded", out).groups())
    fine = int(re.search(r"status codes: (\d+) 2xx", out)[1])
    if asked == 0 or not good == fine or re.search(r"[1-9]\d* (failed|errored|timeout)", out):
        raise Failed(re.search(r"requests:.*", out)[0])
    return out, fine


def said(argv, port, path, tls):
    """What h2load tells of a single request: protocol, TLS, bytes."""
    return _h2load(["-n1", "-c1", *argv], port, path, tls, 20)[0]


def h2(port, path, seconds, connections, streams):
    """HTTP/2 over TLS, `streams` requests in flight on each connection."""
    out, fine = _h2load([f"-c{connections}", f"-m{streams}", f"-D{seconds}"], port, path, True, seconds + 30)
    return Load(fine, float(seconds))


def handshakes(port, path, seconds):
    """New connections, each with a full handshake and one request, 50 at a time."""
    began, made = time.monotonic(), 0
    while (took := time.monotonic() - began) < seconds:
        made += _h2load(["--h1", "-n50", "-c50"], port, path, True, 30)[1]
    return Load(made, took)


def paced(port, path, seconds, connections, rate):
    """`rate` requests a second, whatever the answers do; latencies of each from its log."""
    log = os.path.join(machine.WORK, "paced.log")
    if os.path.exists(log):
        os.unlink(log)
    pace = [f"-c{connections}", f"--rps={rate / connections:.1f}", f"-D{seconds}"]
    _, fine = _h2load(["--h1", *pace, f"--log-file={log}"], port, path, False, seconds + 30)
    with open(log) as file:
        took = sorted(int(line.split("\t")[2]) for line in file)
    if fine < 0.9 * rate * seconds:
        raise Failed(f"{fine / seconds:.0f} requests a second of {rate:.0f} were sent")
    return Load(fine, float(seconds), took[len(took) // 2], took[len(took) * 99 // 100])
