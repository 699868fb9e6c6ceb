"""Apps behind the proxy, and people before it."""

import http.client
import http.cookies
import http.server
import json
import threading
import time

# Longer than anything takes on a busy machine.
PATIENCE = 60


class App(http.server.ThreadingHTTPServer):
    """A ColdFusion app as far as its cookies go: its answer says whose session it was asked in. `/slow` waits for leave."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, name):
        super().__init__(("127.0.0.1", 0), Answer)
        self.name, self.begun = name, 0
        self.lock = threading.Lock()
        self.asked_slowly, self.may_answer = threading.Event(), threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        """A crash of the proxy cuts connections: that is meant."""

    def begin(self):
        with self.lock:
            self.begun += 1
            return str(1000 + self.begun)


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.endswith("/slow"):
            self.server.asked_slowly.set()
            self.server.may_answer.wait(PATIENCE)
        cookies = http.cookies.SimpleCookie(self.headers.get("Cookie", ""))
        known = cookies["CFID"].value if "CFID" in cookies else None
        session = known or self.server.begin()
        body = json.dumps({"app": self.server.name, "session": session}).encode()
        self.send_response(200)
        if not known:
            self.send_header("Set-Cookie", f"CFID={session}; Path=/")
            self.send_header("Set-Cookie", f"CFTOKEN=8172{session}; Path=/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def ask(path, cookie=None, host="127.0.0.1"):
    """One request on a connection of its own: status, what the app said, the cookie that came."""
    connection = http.client.HTTPConnection(host, 80, timeout=PATIENCE)
    try:
        fields = {"Host": "apps.example.org", "Connection": "close", **({"Cookie": cookie} if cookie else {})}
        connection.request("GET", path, headers=fields)
        answer = connection.getresponse()
        body, came = answer.read(), answer.getheader("Set-Cookie")
    finally:
        connection.close()
    said = json.loads(body) if answer.status == 200 else {}
    return answer.status, said, came.split(";")[0] if came else None


class Person:
    """Somebody with sessions in the apps at these paths."""

    def __init__(self, paths):
        self.cookie, self.sessions = None, {}
        for path in paths:
            status, said, came = ask(path, self.cookie)
            assert status == 200, f"{path}: {status}"
            self.cookie = came or self.cookie
            self.sessions[path] = said["session"]

    def is_known(self):
        return all(ask(path, self.cookie)[1].get("session") == session for path, session in self.sessions.items())


class Load:
    """People who ask without end, every time on a new connection. Half of them by IPv6."""

    def __init__(self, people):
        self.stop, self.answered, self.refused, self.failed = threading.Event(), 0, [], []
        self.lock = threading.Lock()
        each = enumerate(people)
        self.threads = [threading.Thread(target=self.go, args=(person, number)) for number, person in each]
        for thread in self.threads:
            thread.start()

    def go(self, person, number):
        path, session = list(person.sessions.items())[number % len(person.sessions)]
        # A person's pause: this is to be a steady stream, not a measurement.
        while not self.stop.wait(0.005):
            try:
                status, said, _ = ask(path, person.cookie, ("127.0.0.1", "::1")[number // 2 % 2])
                good = status == 200 and said["session"] == session
                self.note(None if good else f"{path}: {status} {said}", self.failed)
            except ConnectionRefusedError as error:
                self.note(repr(error), self.refused)
            except (OSError, http.client.HTTPException) as error:
                self.note(repr(error), self.failed)

    def note(self, wrong, where):
        with self.lock:
            if wrong:
                where.append(wrong)
            else:
                self.answered += 1

    def goes_on(self, more=100):
        """Waits for so many answers more."""
        now, end = self.answered, time.monotonic() + PATIENCE
        while self.answered < now + more:
            assert time.monotonic() < end, f"no answers come; failed: {self.failed[:3]}, refused: {self.refused[:3]}"
            time.sleep(0.01)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
