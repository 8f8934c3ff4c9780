"""Accepts TLS connections and says of each whether the client trusted the certificate.  handshakes.py HOST PORT CERTIFICATE KEY"""

import socket
import ssl
import sys

host, port, certificate, key = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
context.set_alpn_protocols(["h2"])
server = socket.create_server((host, int(port)))
while True:
    connection, _ = server.accept()
    connection.settimeout(5)
    try:
        with context.wrap_socket(connection, server_side=True) as client:
            print("trusted", client.selected_alpn_protocol(), flush=True)
    except OSError as error:
        print("refused", error, flush=True)
