"""A producer whose end is in MODE. LIVES counts its processes."""
import os
import sys
import time

import pyarrow as pa
from dora import Node

lives = os.environ["LIVES"]
with open(lives, "a") as f:
    f.write("life\n")
with open(lives) as f:
    life = len(f.readlines())
mode = os.environ["MODE"]
node = Node()
time.sleep(0.7)  # the consumers are there


def send(count):
    for i in range(count):
        node.send_output("out", pa.array([i]))
        time.sleep(0.1)


send(3)
if mode == "crash" or mode == "crash-once" and life == 1:
    os._exit(3)
if mode == "hang" and life == 1:
    time.sleep(3600)
if mode == "silent":
    time.sleep(3)
    send(3)
while mode == "forever":
    send(1)
    event = node.try_recv()
    if event is not None and event["type"] == "STOP":
        break
