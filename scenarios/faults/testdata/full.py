"""Prints COUNT lines at once, says so in a file, and prints a last one later."""
import sys
import time

from dora import Node

node = Node()
for i in range(int(sys.argv[1])):
    print("line", i)
sys.stdout.flush()
with open(sys.argv[2], "a") as f:
    f.write("py\n")
time.sleep(3)
print("after", flush=True)
