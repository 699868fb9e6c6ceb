"""A machine of its own for the units: systemd as PID 1 on a copy of the Debian that `fetch` has made.

Whoever calls is in mount and network namespaces of its own already, so that all mounts, and all ports, go with it.
"""

import contextlib
import os
import signal
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# Longer than anything takes on a busy machine.
DEADLINE = 90
CHECKOUT = "srv/sessionbridge"


class Failed(Exception):
    """Something is not as it should be."""


def wait_until(what, is_so, deadline=DEADLINE):
    """Looks again and again until it is so; returns what `is_so` returned."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        found = is_so()
        if found:
            return found
        time.sleep(0.02)
    raise Failed(f"after {deadline} s still waiting for {what}")


class Machine:
    """Between `boot` and `end`. What is written to it is gone with it."""

    def __init__(self, directory):
        self.tree = os.path.join(directory, "tree")
        # An empty folder to whoever is not in these namespaces.
        self.scratch = os.path.join(directory, "mounts")
        self.root = os.path.join(self.scratch, "root")
        self.groups = os.path.join(self.scratch, "groups")
        self.group = os.path.join(self.groups, f"sessionbridge-test-{os.getpid()}")
        self.boots, self.init = None, None

    def boot(self, binary):
        os.makedirs(self.scratch, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", self.scratch], check=True)
        for name in ("upper", "work", "root", "groups"):
            os.mkdir(os.path.join(self.scratch, name))
        layers = f"lowerdir={self.tree},upperdir={self.scratch}/upper,workdir={self.scratch}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", self.root], check=True)
        subprocess.run(["mount", "-t", "cgroup2", "cgroup2", self.groups], check=True)
        self.remove_groups()
        os.mkdir(self.group)
        # The cgroup namespace begins where its maker is, so it is to be made from within the group. Who kills this process
        # kills the machine.
        enter = f'echo $$ >"{self.group}/cgroup.procs"; exec "$@"'
        spaces = ["unshare", "--pid", "--cgroup", "--uts", "--ipc", "--mount", "--fork", "--kill-child"]
        self.boots = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "sh", "-c", enter, "sh", *spaces]
            + [os.path.join(HERE, "boot"), self.root, binary],
            stdin=subprocess.DEVNULL,
            # Of interest if it does not boot; `unshare` also complains of being ended.
            stderr=subprocess.PIPE,
            text=True,
        )
        self.init = wait_until("PID 1", self.child)
        # "degraded" where the host's kernel does not let Debian's own units do all that they want.
        states = ("running", "degraded")
        wait_until("systemd", lambda: self.run("systemctl", "is-system-running", check=False).strip() in states)

    def child(self):
        """systemd, once it is that."""
        if self.boots.poll() is not None:
            raise Failed(f"the machine does not boot: {self.boots.stderr.read()}")
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8") as file:
                fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
                if fields["PPid"] == str(self.boots.pid) and fields["Name"] == "systemd":
                    return int(pid)
        return None

    def path(self, inside):
        """A path of the machine as this process can open it."""
        return os.path.join("/proc", str(self.init), "root", inside.lstrip("/"))

    def write(self, inside, text):
        path = self.path(inside)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def run(self, *command, check=True, code=False, where="/"):
        """Its output, or with `code` its exit code too."""
        enter = ["nsenter", "--target", str(self.init), "--all", f"--wdns={where}", "--"]
        words = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "SYSTEMD_PAGER": "cat", "SYSTEMD_COLORS": "0"}
        done = subprocess.run(
            enter + list(command),
            env=words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
        )
        if check and done.returncode:
            raise Failed(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}")
        return (done.returncode, done.stdout) if code else done.stdout

    def show(self, name, unit="sessionbridge.service"):
        return self.run("systemctl", "show", "--value", "--property", name, unit).strip()

    def log(self, unit="sessionbridge.service"):
        return self.run("journalctl", "--unit", unit, "--output", "cat", "--no-pager")

    def end(self):
        if self.boots and self.boots.poll() is None:
            # PID 1 of a namespace takes everybody in it along, and is waited for by who made it.
            os.kill(self.init or self.boots.pid, signal.SIGKILL)
        if self.boots:
            self.boots.wait()
        with contextlib.suppress(Failed):
            wait_until("the end of the machine", lambda: self.remove_groups() or not os.path.isdir(self.group), 10)

    def remove_groups(self):
        """Those of this run, and of earlier ones that were killed; not of one that runs beside this one."""
        for name in os.listdir(self.groups):
            if name.startswith("sessionbridge-test-"):
                for folder, _, _ in os.walk(os.path.join(self.groups, name), topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(folder)
