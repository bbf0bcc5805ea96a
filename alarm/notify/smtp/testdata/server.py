"""A mail server for tests: takes mail and prints what it got, one JSON line each.

Arguments: folder, kind of security (none, starttls, tls), certificate, key.
Recipients that begin with "no" are refused with 550, with "later" with 451. A file
"data" in the folder has the answer to the whole mail.
"""
import asyncio, base64, json, os, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from email import message_from_bytes, policy

folder, security, cert, key = sys.argv[1:5]
context = None
if security != "none":
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("no"):
            return "550 5.1.1 no such user"
        if address.startswith("later"):
            return "451 4.2.1 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        try:
            with open(os.path.join(folder, "data")) as f:
                return f.read()
        except FileNotFoundError:
            pass
        m = message_from_bytes(envelope.content, policy=policy.default)
        print(json.dumps({"from": envelope.mail_from, "to": envelope.rcpt_tos, "subject": m["Subject"], "id": m["Message-ID"],
                          "header_to": str(m["To"]), "auto": m["Auto-Submitted"], "body": m.get_content(), "tls": server.transport.get_extra_info("ssl_object") is not None,
                          "login": bool(session.authenticated), "ascii": envelope.content.isascii()}), flush=True)
        return "250 taken"


def authenticate(server, session, envelope, mechanism, data):
    ok = isinstance(data, LoginPassword) and data.login == b"user" and data.password == b"password"
    return AuthResult(success=ok, handled=False)


async def main():
    loop = asyncio.get_running_loop()
    auth = {"authenticator": authenticate, "auth_require_tls": False}
    tls = {"tls_context": context, "require_starttls": True} if security == "starttls" else {}
    server = await loop.create_server(lambda: SMTP(Handler(), hostname="mail.example", **tls, **auth), "127.0.0.1", 0,
                                      ssl=context if security == "tls" else None)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # ends with whoever started it


asyncio.run(main())
os._exit(0)
