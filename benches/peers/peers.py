"""The origin, the proxy under test and its peers: their configs, and how each is started.

Every proxy does the same for a request: it passes on Host, adds X-Forwarded-For, keeps connections to the origin, and on /c/
turns an opaque cookie into the app's two tokens and translates the path of the app's own cookie. What the peers leave out:

  * HAProxy with a static map knows tokens that were there at the start; it cannot learn one.
  * nginx with a Lua vault learns tokens (vault.lua), and forgets none: no clocks, no expiry, no rival answers, no heartbeats.
  * None of them writes an access log or keeps a person's clocks; sessionbridge does both in every figure.
"""
import os, re, subprocess

import machine
from machine import WORK, write

# In every vault and map, while something is timed; SESSIONS=1000 in the environment for people who click more often.
SESSIONS = int(os.environ.get("SESSIONS", 100_000))
BODY = "x" * 1024
BIG = 64 * 1024
IDLE = "600s"            # idle connections outlive what is measured about them
OPEN = 9_000             # connections that a proxy must hold; twice as many files
# Where the product tells its metrics, by its process's name.
admin = {}


def map_id(n):
    """A cookie value as long as a vault's own."""
    return f"{n * 0x9e3779b97f4a7c15 % 2**64:016x}{n:016x}"


def token(n):
    return f"{10_000_000 + n}"


def certificate():
    """One for all: ECDSA on P-256, for localhost. Its path, its key's, and both in one file."""
    cert, key, both = (os.path.join(WORK, name) for name in ("cert.pem", "key.pem", "both.pem"))
    if not os.path.exists(both):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
                       check=True, capture_output=True)
        with open(both, "w") as file:
            file.write(open(cert).read() + open(key).read())
    return cert, key, both


def _nginx(name, cpus, port, http, main="", workers=1):
    # As root its workers would be nobody's, and could not read what is in a folder of root's.
    user = "user root;" if os.geteuid() == 0 else ""
    conf = write(f"{name}.conf", f"""{main}
{user} daemon off; worker_processes {workers}; pid {WORK}/{name}.pid; error_log stderr crit; worker_rlimit_nofile {2 * OPEN + 200};
events {{ worker_connections {2 * OPEN}; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout {IDLE}; default_type text/plain;
  client_body_temp_path {WORK}/{name}.body; proxy_temp_path {WORK}/{name}.proxy;
{http}
}}
""")
    return machine.start(name, cpus, port, "nginx", "-p", WORK, "-c", conf)


# What a session is from now on: both its tokens are set anew, beside the cookie that each answer sets.
_TURN = """add_header Set-Cookie "theme=dark; Path=/"; add_header Set-Cookie "CFID=$connection; Path=/; HttpOnly";
      add_header Set-Cookie "CFTOKEN=$request_id; Path=/; HttpOnly";"""


def origin(port):
    """The app behind all of them."""
    write("big", "y" * BIG)
    return _nginx("origin", machine.REST, port, f"""
  open_file_cache max=10; open_file_cache_valid 1h; sendfile on; tcp_nopush on;
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location /plain/ {{ return 200 "{BODY}"; }}
    location = /plain/big {{ alias {WORK}/big; }}
    location /c/ {{ add_header Set-Cookie "theme=dark; Path=/"; return 200 "{BODY}"; }}
    location /c/seen {{ add_header X-Seen-Cookie $http_cookie; add_header Set-Cookie "theme=dark; Path=/"; return 200 "{BODY}"; }}
    location /c/start {{ add_header X-Began $arg_n; add_header Set-Cookie "CFID=$arg_n; Path=/; HttpOnly";
      add_header Set-Cookie "CFTOKEN=$arg_n; Path=/; HttpOnly"; return 200 "{BODY}"; }}
    location = /c/turn {{ {_TURN} return 200 "{BODY}"; }}
    location = /c/turn/told {{ add_header X-Turned "CFID=$connection; CFTOKEN=$request_id"; {_TURN} return 200 "{BODY}"; }}
  }}""", workers=len(machine.REST))


_NGINX_PROXY = """proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
    proxy_buffers 16 8k; proxy_max_temp_file_size 0;"""
# Each gives the two tickets that it gives by default. The generator shows none: every handshake that is timed is a full one.
_NGINX_TLS = "ssl_protocols TLSv1.3; ssl_session_cache off;"


def nginx(name, port, back, tls=False, cpus=machine.ONE):
    cert, key, _ = certificate()
    listen = f"127.0.0.1:{port} ssl http2 backlog=4096; ssl_certificate {cert}; ssl_certificate_key {key}; {_NGINX_TLS}" if tls \
        else f"127.0.0.1:{port} backlog=4096;"
    return _nginx(name, cpus, port, f"""

  upstream o {{ server 127.0.0.1:{back}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{ listen {listen} {_NGINX_PROXY} location / {{ proxy_pass http://o; }} }}""")


def nginx_lua(name, port, back):
    modules = "/usr/lib/nginx/modules"
    here = os.path.dirname(os.path.abspath(__file__))
    main = f"load_module {modules}/ndk_http_module.so; load_module {modules}/ngx_http_lua_module.so;"
    return _nginx(name, machine.ONE, port, f"""
  lua_package_path "{here}/?.lua;/usr/share/lua/5.1/?.lua;;"; lua_shared_dict vault 128m;
  init_by_lua_block {{ require "vault" }}
  upstream o {{ server 127.0.0.1:{back}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; {_NGINX_PROXY}
    location /c/ {{ access_by_lua_block {{ require("vault").to_app() }} header_filter_by_lua_block {{ require("vault").to_client() }}
      proxy_pass http://o; }}
  }}""", main)


_HAPROXY = f"""
global
  nbthread 1
  maxconn {OPEN}
  tune.ssl.cachesize 0
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  timeout connect 5s
  timeout client {IDLE}
  timeout server {IDLE}
  timeout http-keep-alive {IDLE}
"""


def _haproxy(name, port, text):
    return machine.start(name, machine.ONE, port, "haproxy", "-f", write(f"{name}.haproxy", _HAPROXY + text))


def haproxy(name, port, back, tls=False):
    bind = f"127.0.0.1:{port} backlog 4096" + (f" ssl crt {certificate()[2]} alpn h2,http/1.1" if tls else "")
    return _haproxy(name, port, f"""
  mode http
  option forwardfor
  http-reuse always
frontend f
  bind {bind}
  http-request set-header X-Forwarded-Proto {"https" if tls else "http"}
  default_backend o
backend o
  server o 127.0.0.1:{back} pool-max-conn 1024
""")


def haproxy_map(name, port, back):
    entries = write("tokens.haproxy", "".join(f"{map_id(n)} {token(n)}\n" for n in range(SESSIONS)))
    return _haproxy(name, port, f"""
  mode http
  option forwardfor
  http-reuse always
frontend f
  bind 127.0.0.1:{port} backlog 4096
  http-request set-header X-Forwarded-Proto http
  http-request set-var(txn.t) req.cook(bridge),map_str({entries},none)
  http-request replace-header Cookie ^bridge=[^;]*;?\\ ?(.*)$ CFID=%[var(txn.t)];\\ CFTOKEN=%[var(txn.t)];\\ \\1
  http-response replace-header Set-Cookie ^(.*);\\ Path=/$ \\1;\\ Path=/c
  default_backend o
backend o
  server o 127.0.0.1:{back} pool-max-conn 1024
""")


def haproxy_tcp(name, port, back):
    """A floor: bytes from one socket to the other, nothing read."""
    return _haproxy(name, port, f"""
  mode tcp
frontend f
  bind 127.0.0.1:{port} backlog 4096
  default_backend o
backend o
  server o 127.0.0.1:{back}
""")


def sessionbridge(name, port, back, tls=False, threads=1, cpus=machine.ONE, store='kind = "memory"'):
    """The product with all that it has: access log, metrics, timeouts, limits."""
    admin[name] = machine.free_port()
    cert, key, _ = certificate()
    conf = write(f"{name}.toml", f"""
listen = "127.0.0.1:{port}"
admin.listen = "127.0.0.1:{admin[name]}"
log = {{ access = "{machine.log_of(name + '.access')}", format = "json" }}
store = {{ {store}, max_sessions = 3_000_000 }}
bridge = {{ idle_timeout = "12h", max_lifetime = "24h", presence_limit = "off" }}
[server]
threads = {threads}
timeouts.idle = "{IDLE}"
limits.new_sessions = {{ rate = "1000000/s", burst = 1000000, per = "client-ip" }}
{f'[[tls.certificates]]{chr(10)}cert = "{cert}"{chr(10)}key = "{key}"' if tls else ""}
[apps.plain]
path = "/plain/"
upstreams = ["http://127.0.0.1:{back}"]
[apps.c]
path = "/c/"
upstreams = ["http://127.0.0.1:{back}"]
session.engine = "coldfusion"
session.timeout = "12h"
""")
    return machine.start(name, cpus, port, binary(), "run", "--config", conf)


def binary():
    """The built one, wherever Cargo puts it."""
    given = os.environ.get("SESSIONBRIDGE_BIN")
    if given:
        return os.path.abspath(given)
    told = subprocess.run(["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=machine.ROOT, capture_output=True, text=True)
    folder = re.search(r'"target_directory":"([^"]*)"', told.stdout)
    return os.path.join(folder[1] if folder else os.path.join(machine.ROOT, "target"), "release/sessionbridge")
