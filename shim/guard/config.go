package guard

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/dora-go/dora/shim/folder"
)

// ConfigEnv is the environment variable that carries a Config to the guard and on to the
// shim.
const ConfigEnv = "DORA_SHIM_CONFIG"

// File descriptors that the guard inherits, and those that it hands to the shim.
const (
	ReadyFD       = 3 // write end: the shim says that it listens, or why not
	GuardParentFD = 4 // read end: end of file when the starter is gone (only with ParentPipe)
	ShimGuardFD   = 4 // read end: end of file when the guard is gone
	ShimParentFD  = 5 // the same pipe as GuardParentFD (only with ParentPipe)
)

// Config says which shim to run.
type Config struct {
	Dir        string `json:"dir"` // the shim's folder, absolute
	Dataflow   string `json:"dataflow"`
	Token      string `json:"token"`
	Version    string `json:"version"`
	ParentPipe bool   `json:"parent_pipe,omitempty"`
	NoCgroup   bool   `json:"no_cgroup,omitempty"`
	Mark       string `json:"mark"` // marks the environment of everything below the shim
	// Filled in by the guard.
	GuardPID int    `json:"guard_pid,omitempty"`
	Cgroup   string `json:"cgroup,omitempty"`
}

// Encode returns the environment entry that carries c.
func (c Config) Encode() string {
	b, err := json.Marshal(c)
	if err != nil {
		panic("guard: strings and numbers always encode: " + err.Error())
	}
	return ConfigEnv + "=" + string(b)
}

// FromEnvironment reads the Config of this process and removes it from the environment.
func FromEnvironment() (Config, error) {
	var c Config
	text := os.Getenv(ConfigEnv)
	os.Unsetenv(ConfigEnv)
	if text == "" {
		return c, fmt.Errorf("%s is not set: a shim is started by `dora run` or `dora daemon`, not by hand", ConfigEnv)
	}
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return c, fmt.Errorf("%s is damaged: %w", ConfigEnv, err)
	}
	return c, nil
}

// Ready is the one JSON document that the shim writes to ReadyFD: who it is, or why there
// is none.
type Ready struct {
	Owner folder.Owner `json:"owner"`
	Error string       `json:"error,omitempty"`
}
