# An SMTP server on the loopback interface. Arguments: STALLS TLS AUTH PORT. STALLS is the number of messages at which it
# stalls after DATA; TLS is "plain" or a file with key and certificate; AUTH is "auth" or "open"; PORT is 0 for any. It
# prints its port, then a line per message. It rejects the recipient dead@ for good, and busy@ for the time being.
import asyncio
import socket
import ssl
import sys

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

stalls, tls, auth, port = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("dead@"):
            return "550 5.1.1 no \x1b[2J such user"
        if address.startswith("busy@"):
            return "450 4.2.1 come back"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        global stalls
        if stalls > 0:
            stalls -= 1
            print("stalled", flush=True)
            await asyncio.sleep(300)
        text = envelope.content.decode()
        message = (envelope.mail_from, envelope.rcpt_tos, session.authenticated, session.ssl is not None, text)
        print(repr(message), flush=True)
        return "250 OK"


def check(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and data.login == b"alice" and data.password == b"secret"
    return AuthResult(success=good, handled=False)


more = {}
if auth == "auth":
    more = dict(authenticator=check, auth_required=True, auth_require_tls=False)
if tls != "plain":
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls)
    more.update(tls_context=context)
if port == 0:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
controller = Controller(Handler(), hostname="127.0.0.1", port=port, **more)
controller.start()
print(port, flush=True)
# Run until the process that started it is gone.
sys.stdin.read()
