"""The same questions for everybody, before anything is timed. Who does not do the work gets no figure."""
import http.client, re

import generators, peers


def get(port, path, cookie=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def length(port, path, wanted):
    status, _, body = get(port, path)
    return [] if status == 200 and len(body) == wanted else [f"{path}: status {status}, {len(body)} bytes, not {wanted}"]


def plain(port, _ids):
    return length(port, "/plain/x", len(peers.BODY))


def big(port, _ids):
    return length(port, "/plain/big", peers.BIG)


def bridging(port, ids):
    """`ids`: some cookies with the token that belongs to each."""
    wrong = []
    for cookie, token in ids:
        status, headers, body = get(port, "/c/seen", f"bridge={cookie}; theme=light")
        seen = headers.get("X-Seen-Cookie", "")
        if status != 200 or len(body) != len(peers.BODY):
            wrong.append(f"status {status}, {len(body)} bytes")
        if sorted(seen.split("; ")) != [f"CFID={token}", f"CFTOKEN={token}", "theme=light"]:
            wrong.append(f"the origin saw {seen!r}")
        if not re.match(r"theme=dark; *path=/c", headers.get("Set-Cookie", ""), re.I):
            wrong.append(f"Set-Cookie is {headers.get('Set-Cookie')!r}")
    return wrong


def learned(port, tokens):
    """Sessions of a proxy that learns: it gives an opaque cookie for what the app sets, and nothing else."""
    ids = []
    for token in tokens:
        _, headers, _ = get(port, f"/c/start?n={token}")
        fields = headers.get_all("Set-Cookie") or []
        opaque = re.fullmatch(r"bridge=([^;]+)(;.*)?", fields[0]) if len(fields) == 1 else None
        if not opaque:
            return None
        ids.append((opaque[1], token))
    return ids


def _said(port, protocol, *argv):
    try:
        out = generators.said(list(argv), port, "/plain/x", True)
    except generators.Failed as failure:
        return [str(failure)]
    wanted = ["TLS Protocol: TLSv1.3", f"Application protocol: {protocol}", f"({len(peers.BODY)}) data"]
    return [f"h2load does not say {what!r}" for what in wanted if what not in out]


def tls(port, _ids):
    return _said(port, "http/1.1", "--h1")


def h2(port, _ids):
    return _said(port, "h2")
