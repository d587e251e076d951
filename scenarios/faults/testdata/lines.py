"""Prints numbered lines at a rate per second: COUNT RATE. With LIFE, a file, it crashes once."""
import os
import sys
import time

from dora import Node

node = Node()
count, rate = int(sys.argv[1]), int(sys.argv[2])
begin = time.time()
for i in range(count):
    print("line", i, flush=True)
    if (i + 1) % max(1, rate // 100) == 0:
        time.sleep(max(0, begin + (i + 1) / rate - time.time()))
if len(sys.argv) > 3 and not os.path.exists(sys.argv[3]):
    open(sys.argv[3], "w").close()
    os._exit(3)
