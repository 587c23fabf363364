"""Changes a password for a token that docker-registry believes: signed, and for one repository."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

SERVICE = ISSUER = "tests"


class Signer:
    """A key, and its certificate in a file for the registry."""

    def __init__(self, certificate: Path) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, ISSUER)])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .sign(self._key, hashes.SHA256())
        )
        certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        der = made.public_bytes(serialization.Encoding.DER)
        self._header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}

    def token(self, scope: str) -> str:
        """Allow what a scope asks for, `repository:NAME:pull,push`."""
        kind, name, actions = scope.split(":")
        now = int(time.time())
        times = {"iat": now - 5, "nbf": now - 5, "exp": now + 60}
        access = [{"type": kind, "name": name, "actions": actions.split(",")}]
        claims = {"iss": ISSUER, "sub": "", "aud": SERVICE, "jti": "1", "access": access} | times
        said = f"{_encoded(json.dumps(self._header))}.{_encoded(json.dumps(claims))}"
        signature = self._key.sign(said.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{said}.{_encoded(signature)}"


def _encoded(content: str | bytes) -> str:
    raw = content.encode() if isinstance(content, str) else content
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@contextmanager
def tokens(signer: Signer, user: str, password: str) -> Iterator[str]:
    """Start a token server for one user; give its address."""
    proof = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = self.headers.get("Authorization") == proof
            scope = parse_qs(urlsplit(self.path).query).get("scope", [""])[0]
            content = json.dumps({"token": signer.token(scope)} if is_known else {}).encode()
            self.send_response(200 if is_known else 401)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/token"
        finally:
            server.shutdown()
