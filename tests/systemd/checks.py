"""What docs/running.md and packaging/systemd promise, one function for each promise, in this order on one machine."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import shutil
import stat

from machine import CHECKOUT, DEADLINE, ROOT, Failed, wait_until
from people import App, Load, Person, ask

SERVICE = "sessionbridge.service"
CONFIG = "/etc/sessionbridge/config.toml"
CREDENTIAL = "LoadCredential=admin-token:/etc/sessionbridge/admin-token"
PATHS = ["/AppA/", "/AppB/"]


class Stage:
    """The machine, two apps, a few people."""

    def __init__(self, machine):
        self.machine = machine
        self.apps = {name: App(name) for name in ("AppA", "AppB", "AppC")}
        self.people, self.loads = [], []
        # Of the config: the ports, and more lines.
        self.listen, self.more = ("0.0.0.0:80", "[::1]:80"), ""
        checkout = machine.path(CHECKOUT)
        shutil.copytree(f"{ROOT}/packaging", f"{checkout}/packaging")
        machine.write(f"{CHECKOUT}/config.toml", self.config())
        # Root needs none, and Debian's smallest system has none.
        machine.write("/usr/bin/sudo", '#!/bin/sh\nexec "$@"\n')
        os.chmod(machine.path("/usr/bin/sudo"), 0o755)

    def config(self, apps=("AppA", "AppB")):
        lines = [f"listen = {json.dumps(self.listen)}", 'log.format = "text"', 'log.access = "off"', self.more]
        for name in apps:
            lines += [
                f"[apps.{name[0].lower() + name[1:]}]",
                f'path = "/{name}/"',
                f'upstreams = ["{self.apps[name].url()}"]',
                'session.engine = "coldfusion"',
                f'heartbeat.path = "/{name}/ping.cfm"',
            ]
        return "\n".join(lines) + "\n"

    def configure(self, text):
        """In one step: the running proxy looks at the file, too."""
        self.machine.write(f"{CONFIG}.new", text)
        os.rename(self.machine.path(f"{CONFIG}.new"), self.machine.path(CONFIG))

    def as_docs_say(self, word):
        """Runs the block of commands in docs/running.md that has this word in it."""
        with open(f"{ROOT}/docs/running.md", encoding="utf-8") as file:
            blocks = re.findall(r"^```sh\n(.*?)^```", file.read(), re.MULTILINE | re.DOTALL)
        (block,) = [block for block in blocks if word in block]
        self.machine.run("sh", "-e", "-c", block, where=f"/{CHECKOUT}")

    def drop_in(self, text):
        self.machine.write(f"/etc/systemd/system/{SERVICE}.d/test.conf", f"[Service]\n{text}\n")
        self.machine.run("systemctl", "daemon-reload")

    def shows(self, name, wanted, unit=SERVICE):
        found = self.machine.show(name, unit)
        if found != wanted:
            raise Failed(f"{name} is {found!r}, not {wanted!r}")

    def pid(self):
        return int(self.machine.show("MainPID"))

    def fails_to(self, verb):
        if not self.machine.run("systemctl", verb, SERVICE, check=False, code=True)[0]:
            raise Failed(f"systemctl {verb} succeeds")

    def next_pid(self, before):
        """That of the main process after this one, once it serves."""

        def another():
            pid = self.pid()
            return pid not in (0, before) and self.machine.show("ActiveState") == "active" and pid

        return wait_until("another main process", another)

    def descriptors(self, pid):
        folder = self.machine.path(f"/proc/{pid}/fd")
        return [f"{folder}/{name}" for name in os.listdir(folder)]

    def all_known(self):
        """Nobody's sessions are lost."""
        lost = [person.sessions for person in self.people if not person.is_known()]
        if lost:
            raise Failed(f"{len(lost)} of {len(self.people)} people have other sessions: {lost}")

    def ends_well(self, load, failing=0):
        load.end()
        if load.refused or len(load.failed) > failing:
            told = f"{len(load.refused)} connections refused, {len(load.failed)} requests failed of {load.answered}"
            raise Failed(f"{told}: {(load.refused + load.failed)[:5]}")

    def load(self):
        load = Load(self.people)
        self.loads.append(load)
        load.goes_on()
        return load

    def rest(self):
        # So many starts in a row are what systemd calls a loop.
        self.machine.run("systemctl", "reset-failed", "sessionbridge.*", check=False)
        while self.loads:
            self.loads.pop().end()

    def evidence(self):
        status = self.machine.run("systemctl", "status", "--no-pager", "--lines=0", "sessionbridge.*", check=False)
        return status + self.machine.run("journalctl", "--no-pager", "--lines=60", "--output", "short-precise", check=False)


def verify(stage):
    """systemd finds nothing to say against the units"""
    stage.machine.run("mkdir", "-p", "/tmp/units")
    for unit in ("sessionbridge.service", "sessionbridge.socket"):
        shutil.copy(f"{ROOT}/packaging/systemd/{unit}", stage.machine.path("/tmp/units"))
    shutil.copy("/bin/true", stage.machine.path("/usr/bin/sessionbridge"))
    said = stage.machine.run("systemd-analyze", "verify", "/tmp/units/sessionbridge.service", "/tmp/units/sessionbridge.socket")
    os.remove(stage.machine.path("/usr/bin/sessionbridge"))
    if said:
        raise Failed(said)


def start(stage):
    """a start returns when the proxy serves"""
    stage.as_docs_say("enable --now sessionbridge\n")
    # No waiting: it serves now.
    stage.people = [Person(PATHS) for _ in range(8)]
    stage.shows("ActiveState", "active")
    stage.shows("StatusText", "serving")


def confined(stage):
    """it runs without rights, and keeps sessions where the unit says"""
    machine, pid = stage.machine, stage.pid()
    with open(machine.path(f"/proc/{pid}/status"), encoding="utf-8") as file:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    # Binding ports below 1024 is all that is left of root's rights; 2 is a filter of system calls.
    wanted = {"CapEff": "0000000000000400", "CapBnd": "0000000000000400", "NoNewPrivs": "1", "Seccomp": "2"}
    found = {name: fields[name] for name in wanted}
    if found != wanted or fields["Uid"].split()[0] == "0":
        raise Failed(f"{found}, user {fields['Uid']}")
    keys = os.stat(machine.path("/var/lib/private/sessionbridge/keys"))
    if stat.S_IMODE(keys.st_mode) != 0o600 or str(keys.st_uid) not in fields["Uid"]:
        raise Failed(f"the key file: mode {keys.st_mode:o}, user {keys.st_uid}")
    if re.search(r"\b(WARN|ERROR)\b", machine.log()):
        raise Failed(f"it complains: {machine.log()}")
    score = machine.run("systemd-analyze", "security", "--no-pager", SERVICE).splitlines()[-1]
    return score.split("sessionbridge.service: ")[-1].split(" \N{SLIGHTLY SMILING FACE}")[0]


def credential(stage):
    """a secret that only root may read comes in as a credential"""
    stage.machine.write("/etc/sessionbridge/admin-token", "a-token-that-nobody-guesses-0123456789\n")
    os.chmod(stage.machine.path("/etc/sessionbridge/admin-token"), 0o600)
    stage.drop_in(CREDENTIAL)
    with open(f"{ROOT}/docs/running.md", encoding="utf-8") as file:
        (line,) = re.findall(r"^admin\.token = .*$", file.read(), re.MULTILINE)
    stage.more = line
    stage.configure(stage.config())
    stage.machine.run("systemctl", "restart", SERVICE)
    stage.shows("ActiveState", "active")
    stage.all_known()


def reload(stage):
    """a reload returns when the new config is in use"""
    pid = stage.pid()
    stage.configure(stage.config(("AppA", "AppB", "AppC")))
    stage.machine.run("systemctl", "reload", SERVICE)
    status, said, _ = ask("/AppC/")
    if (status, said.get("app")) != (200, "AppC"):
        raise Failed(f"the new app: {status} {said}")
    stage.shows("StatusText", "serving")
    stage.shows("ActiveState", "active")
    stage.shows("MainPID", str(pid))


def bad_reload(stage):
    """a reload with a mistake leaves the old config in force, and shows in the status"""
    stage.configure("listen = 1\n")
    stage.machine.run("systemctl", "reload", SERVICE)
    stage.shows("StatusText", "serving; the config cannot be used")
    stage.shows("ActiveState", "active")
    if "the config cannot be used" not in stage.machine.log():
        raise Failed("the log does not say so")
    if ask("/AppC/")[0] != 200:
        raise Failed("the old config is not in force")
    # Nobody asks for this one: it is used because the file has changed.
    stage.configure(stage.config())
    wait_until("the status", lambda: stage.machine.show("StatusText") == "serving")
    stage.all_known()


def hand_over(stage):
    """a new binary takes over under load: another main process, no connection refused, no request failed"""
    load, before = stage.load(), stage.pid()
    restarts = stage.machine.show("NRestarts")
    stage.as_docs_say("--signal=USR2")
    after = stage.next_pid(before)
    load.goes_on()
    wait_until("the end of the old process", lambda: not os.path.exists(stage.machine.path(f"/proc/{before}")))
    load.goes_on()
    stage.ends_well(load)
    new = os.stat(stage.machine.path("/usr/bin/sessionbridge")).st_ino
    if os.stat(stage.machine.path(f"/proc/{after}/exe")).st_ino != new:
        raise Failed("it does not run the new file")
    for name, wanted in (("NRestarts", restarts), ("MainPID", str(after)), ("StatusText", "serving")):
        stage.shows(name, wanted)
    stage.all_known()
    return f"{load.answered} answers"


def reload_after(stage):
    """the new process is reloaded like the one before it"""
    reload(stage)


def failed_hand_over(stage):
    """a new binary that fails changes nothing"""
    load, before = stage.load(), stage.pid()
    shutil.move(stage.machine.path("/usr/bin/sessionbridge"), stage.machine.path("/usr/bin/sessionbridge.good"))
    stage.machine.write("/usr/bin/sessionbridge", "#!/bin/sh\nexit 3\n")
    os.chmod(stage.machine.path("/usr/bin/sessionbridge"), 0o755)
    stage.machine.run("systemctl", "kill", "--signal=USR2", "--kill-whom=main", SERVICE)
    wait_until("word of the failure", lambda: "the hand-over failed" in stage.machine.log())
    shutil.move(stage.machine.path("/usr/bin/sessionbridge.good"), stage.machine.path("/usr/bin/sessionbridge"))
    load.goes_on()
    stage.ends_well(load)
    stage.shows("MainPID", str(before))
    stage.shows("ActiveState", "active")


def stop(stage):
    """a stop ends what is in flight, and itself"""
    app = stage.apps["AppA"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        slow = pool.submit(ask, "/AppA/slow", stage.people[0].cookie)
        if not app.asked_slowly.wait(DEADLINE):
            raise Failed("the app is not asked")
        stopping = pool.submit(stage.machine.run, "systemctl", "stop", SERVICE)
        wait_until("the drain", lambda: stage.machine.show("StatusText") == "draining")
        stage.shows("ActiveState", "deactivating")
        app.may_answer.set()
        if slow.result()[0] != 200:
            raise Failed(f"the request in flight: {slow.result()}")
        stopping.result()
    stage.shows("ActiveState", "inactive")
    stage.shows("Result", "success")


def wrong_config(stage):
    """a start with a wrong config is not tried again"""
    stage.configure("listen = 1\n")
    stage.fails_to("start")
    # Not "activating", which it would be while another try is due.
    for name, wanted in (("ActiveState", "failed"), ("ExecMainStatus", "78"), ("NRestarts", "0")):
        stage.shows(name, wanted)
    stage.configure(stage.config())
    stage.machine.run("systemctl", "start", SERVICE)
    stage.all_known()


def sockets(stage):
    """systemd holds the ports"""
    stage.listen = ("0.0.0.0:80", "[::]:80")
    stage.configure(stage.config())
    stage.as_docs_say("enable sessionbridge.socket")
    stage.shows("ActiveState", "active")
    stage.all_known()
    held = {os.readlink(entry) for entry in stage.descriptors(1)}
    listening = set()
    for kind in ("tcp", "tcp6"):
        with open(f"/proc/net/{kind}", encoding="utf-8") as file:
            rows = [line.split() for line in list(file)[1:]]
        listening |= {f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and row[1].endswith(":0050")}
    if len(listening) != 2 or not listening <= held:
        raise Failed(f"port 80: {listening}; of systemd: {listening & held}")


def restart(stage):
    """a restart under load: no connection refused, no request failed"""
    load, before = stage.load(), stage.pid()
    stage.machine.run("systemctl", "restart", SERVICE)
    load.goes_on()
    stage.ends_well(load)
    stage.next_pid(before)
    stage.all_known()
    return f"{load.answered} answers"


def crash(stage):
    """a crash under load: no connection refused, sessions kept"""
    return killed(stage, "KILL")


def crash_after(stage):
    """a crash of a process that took over: likewise"""
    hand_over(stage)
    return killed(stage, "KILL")


def killed(stage, name):
    load, before = stage.load(), stage.pid()
    restarts = int(stage.machine.show("NRestarts"))
    stage.machine.run("systemctl", "kill", f"--signal={name}", "--kill-whom=main", SERVICE)
    stage.next_pid(before)
    load.goes_on()
    # What it had accepted is cut.
    stage.ends_well(load, failing=len(stage.people))
    stage.shows("NRestarts", str(restarts + 1))
    stage.all_known()
    return f"{load.answered} answers, {len(load.failed)} requests cut"


def watched(stage):
    """the watchdog hears the process, also one that took over"""
    stage.drop_in(f"{CREDENTIAL}\nWatchdogSec=2")
    stage.machine.run("systemctl", "restart", SERVICE)
    beats(stage)
    hand_over(stage)
    beats(stage)
    stage.shows("NRestarts", "0")


def beats(stage):
    heard = set()

    def hears():
        heard.add(stage.machine.show("WatchdogTimestampMonotonic"))
        return len(heard) > 4

    wait_until("words to the watchdog", hears)


def stands_still(stage):
    """a process that stands still is started anew by the watchdog: no connection refused, sessions kept"""
    seen = killed(stage, "STOP")
    if "Watchdog timeout" not in stage.machine.log():
        raise Failed("it was not the watchdog")
    return seen


def wrong_config_at_sockets(stage):
    """a wrong config that connections start again and again is given up"""
    stage.configure("listen = 1\n")
    stage.fails_to("restart")
    with contextlib.suppress(OSError, http.client.HTTPException):
        ask("/AppA/")
    wait_until("the end of trying", lambda: stage.machine.show("ActiveState", "sessionbridge.socket") == "failed")
    stage.shows("ActiveState", "failed")
    stage.shows("ExecMainStatus", "78")
    tries = stage.machine.log().count("code=exited, status=78")
    stage.configure(stage.config())
    stage.as_docs_say("reset-failed")
    stage.all_known()
    return f"{tries} tries"


def stop_all(stage):
    """a stop of both gives the ports back"""
    stage.machine.run("systemctl", "stop", "sessionbridge.socket", SERVICE)
    for unit in (SERVICE, "sessionbridge.socket"):
        for name, wanted in (("ActiveState", "inactive"), ("Result", "success")):
            stage.shows(name, wanted, unit)
    try:
        ask("/AppA/")
    except ConnectionRefusedError:
        return
    raise Failed("port 80 is open")


CHECKS = [
    verify,
    start,
    confined,
    credential,
    reload,
    bad_reload,
    hand_over,
    reload_after,
    failed_hand_over,
    stop,
    wrong_config,
    sockets,
    restart,
    crash,
    crash_after,
    watched,
    stands_still,
    wrong_config_at_sockets,
    stop_all,
]
