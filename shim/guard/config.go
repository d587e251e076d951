package guard

import (
	"errors"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// File descriptors that the guard inherits, and those that it hands to the shim.
const (
	ReadyFD       = 3 // write end: the shim says that it listens, or why not
	GuardParentFD = 4 // read end: the Config, later end of file when the starter is gone
	ShimGuardFD   = 4 // read end: the Config, later end of file when the guard is gone
	ShimParentFD  = 5 // the same pipe as GuardParentFD
)

// Config says which shim a pair is to be. It travels down the parent pipe to the guard,
// and from there to the shim: as one line, after which the pipe stays silent.
type Config struct {
	Dir      string // the shim's folder, absolute
	Dataflow string
	Token    string
	Version  string
	Socket   string // where the shim listens
	Mark     string // marks the environment of everything below the shim
	// ParentPipe ends the shim when the parent pipe closes; else that means nothing.
	ParentPipe bool
	// IdleTimeout is how long a shim without daemon, nodes and unread facts stays.
	IdleTimeout time.Duration
	// StarterSocket is a socket of the starter, removed when the starter is gone.
	StarterSocket string
	// Filled in by the guard.
	GuardPID int
	Cgroup   string
}

// maxConfig bounds the line of a Config: four paths of the longest and some names.
const maxConfig = 64 << 10

// Encode returns c as a sequence of quoted values on one line. (No JSON: see early.go.)
func (c Config) Encode() string {
	var b strings.Builder
	for i, v := range []string{c.Dir, c.Dataflow, c.Token, c.Version, c.Socket, c.Mark,
		strconv.FormatBool(c.ParentPipe), strconv.Itoa(c.GuardPID), c.Cgroup,
		strconv.FormatInt(int64(c.IdleTimeout), 10), c.StarterSocket} {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strconv.Quote(v))
	}
	b.WriteByte('\n')
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
	c := Config{Dir: v[0], Dataflow: v[1], Token: v[2], Version: v[3], Socket: v[4], Mark: v[5], Cgroup: v[8], StarterSocket: v[10]}
	c.ParentPipe, _ = strconv.ParseBool(v[6])
	c.GuardPID, _ = strconv.Atoi(v[7])
	idle, _ := strconv.ParseInt(v[9], 10, 64)
	c.IdleTimeout = time.Duration(idle)
	return c, nil
}

var (
	errConfig = errors.New("what this shim is to run is damaged: a shim is started by `dora run` or `dora daemon`, not by hand")
	// ErrByHand is of a guard or shim whose pipes are missing.
	ErrByHand = errors.New("a shim is started by `dora run` or `dora daemon`, not by hand")
	// ErrUnwanted: the pipe was closed before a Config came. The pair was started ahead
	// and nobody needs it.
	ErrUnwanted = errors.New("no dataflow for this shim")
)

// ReadConfig waits for the Config on an inherited pipe, and takes no byte behind it.
func ReadConfig(fd int) (Config, error) {
	if !isPipe(fd) {
		return Config{}, ErrByHand
	}
	// The writer writes the line at once and then nothing, so there is no more to be read.
	var line []byte
	b := make([]byte, 4096)
	for {
		n, err := syscall.Read(fd, b)
		switch {
		case n > 0:
			if line = append(line, b[:n]...); line[len(line)-1] == '\n' {
				return Decode(string(line))
			}
			if len(line) > maxConfig {
				return Config{}, errConfig
			}
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN) && syscall.SetNonblock(fd, false) == nil:
		case err == nil && len(line) == 0:
			return Config{}, ErrUnwanted
		default:
			return Config{}, errConfig
		}
	}
}

func isPipe(fd int) bool {
	var st syscall.Stat_t
	return syscall.Fstat(fd, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFIFO
}

// write hands a Config down a pipe.
func (c Config) write(fd int) error {
	for line := []byte(c.Encode()); len(line) > 0; {
		n, err := syscall.Write(fd, line)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return err
		}
		line = line[max(n, 0):]
	}
	return nil
}
