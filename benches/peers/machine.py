"""The machine: processes with CPUs of their own, what they used, and what the machine says about itself."""
import atexit, os, shutil, socket, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WORK = tempfile.mkdtemp(prefix="peers-")
LOGS = os.path.join(WORK, "logs")
os.mkdir(LOGS)
CORES = sorted(os.sched_getaffinity(0))
# The proxy under test has a CPU of its own, and with two threads two where there are enough; the origin and the generator
# have the rest.
ONE = CORES[1:2]
ROOMY = len(CORES) >= 4
TWO = CORES[1:3] if ROOMY else CORES
REST = [CORES[0], *CORES[3:]] if ROOMY else CORES[:1]

started = []
# Folders that go when all is over.
scratch = [WORK]
# Why somebody did not start, by name.
last_words = {}


def clean_up():
    for process in started:
        process.terminate()
    for process in started:
        end(process)
    for folder in scratch:
        shutil.rmtree(folder, ignore_errors=True)


atexit.register(clean_up)


def end(process):
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def write(name, text):
    path = os.path.join(WORK, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def log_of(name):
    """In a folder of its own: nobody keeps logs beside the config, and sessionbridge watches the folder of that."""
    return os.path.join(LOGS, name + ".log")


def start(name, cpus, port, *argv):
    """A process on `cpus`, once it listens; None where it does not, and its last words are kept."""
    with open(log_of(name), "ab") as log:
        pinned = ["taskset", "-c", ",".join(map(str, cpus)), *argv]
        process = subprocess.Popen(pinned, stdout=log, stderr=subprocess.STDOUT, cwd=WORK)
    started.append(process)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return process
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
    with open(log_of(name), errors="replace") as log:
        last_words[name] = log.read()[-1500:].strip()
    print(f"{name} did not start: {last_words[name]}", file=sys.stderr)
    return None


def family(pid):
    """A process and its children: nginx's worker is one."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [pid] + [one for child in file.read().split() for one in family(int(child))]


def cpu_by_thread(pids):
    """User and system time in nanoseconds, by what threads are called."""
    spent = {}
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat") as stat, open(f"/proc/{pid}/task/{task}/comm") as comm:
                name = comm.read().strip()
                spent[name] = spent.get(name, 0) + int(stat.read().split()[0])
    return spent


def cpu_ns(pids):
    """The same of all threads."""
    return sum(cpu_by_thread(pids).values())


def pss(pids):
    """Memory of their own, in bytes: shared pages by share."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            total += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    return total * 1024


def ticks(cpus):
    """(all, idle, stolen) ticks of these CPUs so far."""
    wanted = {f"cpu{n}" for n in cpus}
    with open("/proc/stat") as file:
        rows = [list(map(int, line.split()[1:])) for line in file if line.split()[0] in wanted]
    return sum(sum(row[:8]) for row in rows), sum(row[3] + row[4] for row in rows), sum(row[7] for row in rows)


def first_line(*argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True)
    except OSError:
        return ""
    return next(iter((done.stdout + done.stderr).strip().splitlines()), "")


def versions():
    """What a reader must know to make sense of a figure; words in a list, none where a tool is missing."""
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), os.uname().machine)
    commit = first_line("git", "-C", ROOT, "rev-parse", "--short", "HEAD")
    changed = first_line("git", "-C", ROOT, "status", "--porcelain", "--untracked-files=no", "src", "Cargo.lock")
    # As packaging/guided builds it, the program does the same with less.
    guided = ", built by packaging/guided" if "guided/" in os.environ.get("SESSIONBRIDGE_BIN", "") else ""
    return {
        "sessionbridge": commit + (" and changes" if changed else "") + guided,
        "rustc": first_line("rustc", "--version").split()[1:2],
        "nginx": first_line("nginx", "-v").partition("/")[2],
        "HAProxy": first_line("haproxy", "-v").split()[2:3],
        "OpenSSL of both": first_line("openssl", "version").split()[1:2],
        "wrk": first_line("wrk", "-v").split()[1:2],
        "h2load": first_line("h2load", "--version").split()[1:2],
        "kernel": os.uname().release,
        "CPU": f"{len(CORES)} x {model}",
    }
