"""Sends UDP at a rate and says what arrives meanwhile, by the kernel's counters and clock.
usage: flow.py DEST MBIT WINDOWS      a line per window of a second: Mbit/s of IP traffic in full-size packets that came in on eth0

Runs with real-time priority where it may, so that a busy machine does not keep a link idle that has something to send."""
import os
import socket
import struct
import sys
import time

dest, mbit, windows = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))
except OSError:
    pass
PAYLOAD, HEADERS = 1472, 42
tick = 0.004
per_tick = mbit * 1e6 / 8 * tick / 1500 * PAYLOAD
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setblocking(False)
sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
sink.bind(("0.0.0.0", 9))
many = min(44, max(1, int(per_tick / PAYLOAD / 2)))
if many > 1:
    s.setsockopt(17, 103, struct.pack("i", PAYLOAD))  # UDP_SEGMENT
data = bytes(PAYLOAD * many)


def arrived():
    with open("/proc/self/net/dev") as f:
        for line in f:
            if line.strip().startswith("eth0:"):
                v = line.split(":")[1].split()
                # A segmented packet counts its headers once.
                return (int(v[0]) - int(v[1]) * HEADERS) / PAYLOAD * 1500, time.monotonic()


start = time.monotonic()
sent = 0
count, since = arrived()
done = 0
while done < windows:
    now = time.monotonic()
    if now - since >= 1:
        c, t = arrived()
        print(round((c - count) * 8 / (t - since) / 1e6, 3), flush=True)
        count, since = c, t
        done += 1
    due = (now - start) / tick * per_tick
    due = min(due, sent + 8 * per_tick)  # what was missed for long is not made up
    start = now - due / per_tick * tick
    while sent + len(data) <= due:
        try:
            s.sendto(data, (dest, 9))
        except (BlockingIOError, ConnectionRefusedError):
            pass
        sent += len(data)
    time.sleep(tick)
