package link

import (
	"encoding/json"
	"time"
)

// Ready compiles the codecs of commands and messages, which is otherwise done when the
// first of each kind is sent or read: 2 ms, for those who have to wait for a moment anyway.
func Ready() {
	at := time.Unix(0, 0)
	warm(Command{Load: &Load{Descriptor: json.RawMessage("{}"), Nodes: []Node{{Env: []EnvVar{{}}, Inputs: []Input{{}}}}},
		Spawn: &Spawn{}, Plan: &SetPlan{}, Release: &Release{}, Ack: &Ack{}, Logs: &Logs{}, End: &End{}})
	warm(Message{Hello: &Hello{}, Reply: &Reply{}, Log: &LogLine{At: at}, Fact: &Fact{At: at, Spawned: &Spawned{},
		Registered: &Registered{}, Subscribed: &Subscribed{}, Exited: &Exited{}}})
}

func warm[T any](v T) {
	if body, err := json.Marshal(&v); err == nil {
		_ = json.Unmarshal(body, new(T))
	}
}
