"""What an open connection costs while nobody asks anything: proportional memory, over thousands of them."""
import resource, socket, ssl, time

import machine

WARM = 200            # connections of before, so that what is there once for all is there
RAMP = 0.001          # seconds between connections
PARKED = 5.0          # seconds; longer than any proxy here waits before it gives back what an idle connection holds


def connections(tls):
    """As many as files allow: the proxy has two for each while it works."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return min(2000 if tls else 8000, (limit - 1000) // 2)


def _open(port, context):
    connection = socket.create_connection(("127.0.0.1", port), 20)
    if context:
        connection = context.wrap_socket(connection, server_hostname="localhost")
    connection.sendall(b"GET /plain/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    got = b""
    while b"\r\n\r\n" not in got or len(got) < got.index(b"\r\n\r\n") + 4 + 1024:
        more = connection.recv(65536)
        if not more:
            raise OSError("the proxy closed a connection")
        got += more
    return connection


def per_connection(process, port, tls):
    """Bytes per idle connection of a process that has served nothing else."""
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    pids = machine.family(process.pid)
    held = [_open(port, context) for _ in range(WARM)]
    for connection in held:
        connection.close()
    time.sleep(PARKED)
    before = machine.pss(pids)
    held, count = [], connections(tls)
    for _ in range(count):
        held.append(_open(port, context))
        time.sleep(RAMP)
    time.sleep(PARKED)
    after = machine.pss(pids)
    for connection in held:
        connection.close()
    return (after - before) / count
