"""A mail server that demands STARTTLS and a login and keeps each mail in a file.

Usage: relay.py FOLDER, with chain.pem, key.pem and an empty folder mails in it. Prints its port.
"""

import asyncio
import itertools
import pathlib
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

FOLDER = pathlib.Path(sys.argv[1])
USER, PASSWORD = b"anklang", "Gänse füßchen".encode()
NUMBERS = itertools.count(1)


class Keep:
    async def handle_DATA(self, server, session, envelope):
        if not session.ssl or not session.authenticated:
            return "530 5.7.0 neither TLS nor login"
        envelope_lines = "".join(f"X-Rcpt-Args: <{to}>\r\n" for to in envelope.rcpt_tos)
        file = FOLDER / "mails" / f"{next(NUMBERS)}.eml"
        file.write_bytes(envelope_lines.encode() + envelope.content)
        return "250 2.0.0 kept"


def login(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (USER, PASSWORD))


async def main():
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(FOLDER / "chain.pem", FOLDER / "key.pem")
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(
            Keep(),
            tls_context=tls,
            require_starttls=True,
            auth_required=True,
            authenticator=login,
            enable_SMTPUTF8=True,
        ),
        "127.0.0.1",
        0,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
