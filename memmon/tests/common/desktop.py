"""A session bus of the user that is given, at the path that is given, with a service for notifications on it, which prints each one as JSON."""

import json
import os
import subprocess
import sys

from jeepney import HeaderFields, MessageType, new_method_return
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection

user, path = int(sys.argv[1]), sys.argv[2]
address = f"unix:path={path}"
# The user need not be able to read these sources.
os.setgroups([])
os.setgid(user)
os.setuid(user)
with subprocess.Popen(
    # It ends with this program, however that ends.
    ["setpriv", "--pdeathsig", "KILL", "dbus-daemon", "--session", "--nofork", "--print-address=1", f"--address={address}"],
    stdout=subprocess.PIPE,
) as bus:
    try:
        bus.stdout.readline()
        connection = open_dbus_connection(address)
        connection.send_and_get_reply(message_bus.RequestName("org.freedesktop.Notifications"))
        print("ready", flush=True)
        while True:
            # A test that failed does not end this program.
            message = connection.receive(timeout=60)
            fields = message.header.fields
            if message.header.message_type == MessageType.method_call and fields.get(HeaderFields.member) == "Notify":
                _, _, _, title, text, *_ = message.body
                connection.send(new_method_return(message, "u", (1,)))
                print(json.dumps({"title": title, "text": text}), flush=True)
    finally:
        bus.kill()
