"""Calls over TLS: a certificate that is trusted, one that is not, one of another host; HTTP/2 where there is nginx."""
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

from conftest import KEY, free_port, make_models, read_jsonl, wait_for, write_jsonl

N = 60


def make_certificate(box, host):
    """A certificate for a host, signed by an authority of its own. Returns (authority, certificate, key)."""
    ca, ca_key, cert, key = (box.path / f"{host}-{name}.pem" for name in ("ca", "ca-key", "cert", "key"))
    extensions = box.path / f"{host}.ext"
    extensions.write_text(f"subjectAltName = {'IP' if host[0].isdigit() else 'DNS'}:{host}\n")

    def openssl(*args):
        subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", ca_key, "-out", ca, "-days", 2, "-subj", "/CN=authority")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", box.path / "request.pem", "-subj", f"/CN={host}")
    openssl("x509", "-req", "-in", box.path / "request.pem", "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-out", cert,
            "-days", 2, "-extfile", extensions)
    return ca, cert, key


class TlsFront:
    """Takes TLS connections on 127.0.0.1 and hands what they carry to a port without TLS."""

    def __init__(self, port, certificate, key):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.to, self.n_connections = port, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listener.getsockname()[1]}/v1/chat/completions"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(plain,), daemon=True).start()

    def serve(self, plain):
        try:
            with self.context.wrap_socket(plain, server_side=True) as secure, \
                    socket.create_connection(("127.0.0.1", self.to)) as inner:
                self.n_connections += 1
                back = threading.Thread(target=self.copy, args=(inner, secure), daemon=True)
                back.start()
                self.copy(secure, inner)
                back.join()
        except OSError:
            pass  # the test reads what the other side says of it

    @staticmethod
    def copy(from_, to):
        try:
            while data := from_.recv(65536):
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.listener.close()


@pytest.fixture
def front(box, simulator):
    fronts = []

    def make(host="127.0.0.1"):
        ca, certificate, key = make_certificate(box, host)
        fronts.append(TlsFront(simulator.port, certificate, key))
        return fronts[-1], ca
    yield make
    for one in fronts:
        one.close()


def run(box, url, *options, **model):
    rows = write_jsonl(box.path / "rows.jsonl", [{"id": str(i), "text": f"It is good, number {i}"} for i in range(N)])
    models = make_models(box, url, **model)
    done = box.run("headrace", "run", "-f", models, "-m", "llm_sentiment", "-i", rows, "-o", box.path / "out.jsonl", *options,
                   env={**box.env, "OPENAI_API_KEY": KEY})
    assert KEY not in done.stderr.decode()
    return done


def test_a_provider_behind_a_trusted_certificate(box, simulator, front):
    tls, ca = front()
    done = run(box, tls.url, "--ca-file", ca, batch_size="3")
    assert done.returncode == 0, done.stderr
    rows = read_jsonl(box.path / "out.jsonl")
    assert len(rows) == N and all(row["sentiment"] == "positive" for row in rows)
    assert len(simulator.calls()) == N // 3
    assert 0 < tls.n_connections <= N // 3


@pytest.mark.parametrize("host, why", [("127.0.0.1", "certificate"), ("elsewhere.example", "certificate")])
def test_a_certificate_that_is_not_trusted_stops_the_run(box, simulator, front, host, why):
    tls, ca = front(host)
    more = ("--ca-file", ca) if host != "127.0.0.1" else ()  # trusted, but another's; or nobody's
    done = run(box, tls.url, *more)
    assert done.returncode == 4, done.stderr
    assert why in done.stderr.decode().lower()
    assert simulator.calls() == []


def test_an_authority_that_is_not_there_is_refused_at_the_start(box, simulator, front):
    tls, _ = front()
    done = run(box, tls.url, "--ca-file", box.path / "nothing.pem")
    assert done.returncode in (2, 3), done.stderr
    assert "nothing.pem" in done.stderr.decode()


@pytest.mark.skipif(not shutil.which("nginx") and not shutil.which("/usr/sbin/nginx"), reason="there is no nginx")
def test_many_calls_over_one_http2_connection(box, simulator):
    ca, certificate, key = make_certificate(box, "127.0.0.1")
    port, log = free_port(), box.path / "access.log"
    (box.path / "nginx.conf").write_text(f"""
        daemon off; worker_processes 1; pid {box.path}/nginx.pid; error_log stderr;
        events {{}}
        http {{
            log_format how '$server_protocol $connection $status'; access_log {log} how;
            client_body_temp_path {box.path}/b; proxy_temp_path {box.path}/p; fastcgi_temp_path {box.path}/f;
            uwsgi_temp_path {box.path}/u; scgi_temp_path {box.path}/s;
            server {{
                listen 127.0.0.1:{port} ssl http2; ssl_certificate {certificate}; ssl_certificate_key {key};
                location / {{ proxy_pass http://127.0.0.1:{simulator.port}; proxy_http_version 1.1; }}
            }}
        }}""")
    box.start("nginx", shutil.which("nginx") or "/usr/sbin/nginx", "-p", box.path, "-c", box.path / "nginx.conf")
    wait_for("nginx", lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
    done = run(box, f"https://127.0.0.1:{port}/v1/chat/completions", "--ca-file", ca, batch_size="3", http2="on")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in log.read_text().splitlines()]
    assert len(lines) == N // 3 and {line[0] for line in lines} == {"HTTP/2.0"} and {line[2] for line in lines} == {"200"}
    assert len({line[1] for line in lines}) == 1, "one connection carries them all"
