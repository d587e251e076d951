"""The Python side of the patterns scenario, written with nothing but the official API."""

import uuid

import pyarrow as pa
from dora import Node

CHUNKS = [(0, 0, False), (0, 1, False), (0, 2, True), (1, 0, False), (1, 1, True)]


class Peer:
    def __init__(self) -> None:
        self.node = Node()
        self.answers = {}  # request_id -> the answer that must come
        self.waiting = []  # ids of goals of the other side that wait for a cancellation
        self.goals = {}  # goal_id -> feedback so far
        self.results = {}  # goal_id -> the status that must come
        self.chunks = []
        self.told = False

    def send(self, output: str, values: list, **parameters) -> None:
        self.node.send_output(output, pa.array(values, pa.int64()), parameters)

    def begin(self) -> None:
        """The client side: requests, goals, a stream."""
        for i in range(5):
            rid = str(uuid.uuid4())
            self.answers[rid] = 2 * i
            self.send("request", [i], request_id=rid, note=f"n{i}")
        for steps, status in [(3, "succeeded"), (-1, "canceled"), (0, "aborted")]:
            gid = str(uuid.uuid4())
            self.goals[gid], self.results[gid] = [], status
            self.send("goal", [steps], goal_id=gid)
        for segment, seq, fin in CHUNKS:
            self.send("stream", [10 * segment + seq], session_id="py", segment_id=segment, seq=seq, fin=fin)

    def handle(self, name: str, values: list, meta: dict) -> None:
        gid = meta.get("goal_id")
        if name == "request":  # serve: the parameters go back
            self.send("response", [values[0] + 1], **{k: v for k, v in meta.items() if k in ("request_id", "unit")})
        elif name == "response":
            assert values == [self.answers.pop(meta["request_id"])], (values, meta)
            assert meta["note"] == f"n{values[0] // 2}", meta
        elif name == "goal":
            if values[0] < 0:
                self.waiting.append(gid)
                self.send("feedback", [0], goal_id=gid)
                return
            for i in range(values[0]):
                self.send("feedback", [i], goal_id=gid)
            status = "succeeded" if values[0] else "aborted"
            self.send("result", [100 + values[0]], goal_id=gid, goal_status=status)
        elif name == "cancel":
            self.waiting.remove(gid)
            self.send("result", [99], goal_id=gid, goal_status="canceled")
        elif name == "feedback":
            assert "goal_status" not in meta, meta
            if gid not in self.goals:  # a result comes on another input and may overtake
                return
            self.goals[gid].append(values[0])
            if self.results[gid] == "canceled":
                self.node.send_output("cancel", pa.array([], pa.int64()), {"goal_id": gid})
        elif name == "result":
            assert meta["goal_status"] == self.results.pop(gid), meta
            want = {"succeeded": [0, 1, 2], "canceled": [0], "aborted": []}[meta["goal_status"]]
            got = self.goals.pop(gid)
            assert got == want[: len(got)] and values == [7], (got, values)
        elif name == "stream":
            self.chunks.append((meta["segment_id"], meta["seq"], meta["fin"], meta.get("flush", False), meta["session_id"], values))

    def finished(self) -> bool:
        return not self.answers and not self.results and len(self.chunks) == 5

    def check_stream(self) -> None:
        want = [(1, 0, False, True), (1, 1, True, False), (2, 0, False, False), (2, 1, False, False), (2, 2, True, False)]
        assert [c[:4] for c in self.chunks] == want, self.chunks
        assert len({c[4] for c in self.chunks}) == 1 and [c[5][0] for c in self.chunks] == [0, 1, 2, 3, 4], self.chunks

    def run(self) -> None:
        self.begin()
        partner = False
        for event in self.node:
            if event["type"] != "INPUT":
                continue
            if event["id"] == "done":
                partner = True
            else:
                self.handle(event["id"], event["value"].to_pylist(), event["metadata"])
            if not self.told and self.finished():
                self.check_stream()
                self.told = True
                self.send("done", [1])
            if self.told and partner:
                print("PASS patterns: python", flush=True)
                return
        raise SystemExit(f"ended too early: {self.answers} {self.results} {self.chunks}")


Peer().run()
