package guard

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"time"
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
	Dir        string // the shim's folder, absolute
	Dataflow   string
	Token      string
	Version    string
	Socket     string // where the shim listens
	Mark       string // marks the environment of everything below the shim
	ParentPipe bool
	NoCgroup   bool
	// IdleTimeout is how long a shim without daemon, nodes and unread facts stays.
	IdleTimeout time.Duration
	// StarterSocket is a socket of the starter, removed when the starter is gone.
	StarterSocket string
	// Filled in by the guard.
	GuardPID int
	Cgroup   string
}

// Encode returns the environment entry that carries c: a sequence of quoted values. (No
// JSON: see early.go.)
func (c Config) Encode() string {
	var b strings.Builder
	b.WriteString(ConfigEnv + "=")
	for i, v := range []string{c.Dir, c.Dataflow, c.Token, c.Version, c.Socket, c.Mark,
		strconv.FormatBool(c.ParentPipe), strconv.FormatBool(c.NoCgroup), strconv.Itoa(c.GuardPID), c.Cgroup,
		strconv.FormatInt(int64(c.IdleTimeout), 10), c.StarterSocket} {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strconv.Quote(v))
	}
	return b.String()
}

// Decode reads what Encode wrote.
func Decode(text string) (Config, error) {
	var v []string
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimPrefix(text, " ") {
		quoted, err := strconv.QuotedPrefix(text)
		if err != nil {
			return Config{}, errConfig
		}
		value, _ := strconv.Unquote(quoted)
		v = append(v, value)
		text = text[len(quoted):]
	}
	if len(v) < 11 {
		return Config{}, errConfig
	}
	c := Config{Dir: v[0], Dataflow: v[1], Token: v[2], Version: v[3], Socket: v[4], Mark: v[5], Cgroup: v[9]}
	c.ParentPipe, _ = strconv.ParseBool(v[6])
	c.NoCgroup, _ = strconv.ParseBool(v[7])
	c.GuardPID, _ = strconv.Atoi(v[8])
	idle, _ := strconv.ParseInt(v[10], 10, 64)
	c.IdleTimeout = time.Duration(idle)
	if len(v) > 11 {
		c.StarterSocket = v[11]
	}
	return c, nil
}

var (
	errConfig   = errors.New(ConfigEnv + " is damaged: a shim is started by `dora run` or `dora daemon`, not by hand")
	errNoConfig = errors.New(ConfigEnv + " is not set: a shim is started by `dora run` or `dora daemon`, not by hand")
)

// FromEnvironment reads the Config of this process and removes it from the environment.
func FromEnvironment() (Config, error) {
	text := os.Getenv(ConfigEnv)
	os.Unsetenv(ConfigEnv)
	if text == "" {
		return Config{}, errNoConfig
	}
	return Decode(text)
}
