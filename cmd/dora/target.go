package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dora-go/dora/transport/ws"
	"github.com/spf13/cobra"
)

// Where a coordinator is, if nothing else is said.
const (
	defaultAddr = "127.0.0.1"
	defaultPort = 6013
)

// target says where the coordinator of a command is. Calls share one connection.
type target struct {
	addr string
	port uint16

	mu   sync.Mutex
	conn *ws.Client // nil: not made yet
}

// addFlags gives a command the flags that every command to a coordinator has; their
// environment variables are read by resolve.
func (t *target) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.addr, "coordinator-addr", defaultAddr, "address of the coordinator (DORA_COORDINATOR_ADDR)")
	cmd.Flags().Uint16Var(&t.port, "coordinator-port", defaultPort, "port of the coordinator (DORA_COORDINATOR_PORT)")
}

// resolve reads the environment where flags were not given.
func (t *target) resolve(cmd *cobra.Command) error {
	return fromEnv(cmd, map[string]string{"coordinator-addr": "DORA_COORDINATOR_ADDR", "coordinator-port": "DORA_COORDINATOR_PORT"})
}

func (t *target) hostPort() string { return net.JoinHostPort(t.addr, strconv.Itoa(int(t.port))) }

// tokenName is the file of the token in the state folder.
const tokenName = "token"

// findToken is the token for the coordinator's port: DORA_AUTH_TOKEN, else that of the
// state folder, else none.
func findToken() (string, error) {
	if t := os.Getenv("DORA_AUTH_TOKEN"); t != "" {
		return t, nil
	}
	home, err := doraHome()
	if err != nil {
		return "", err
	}
	t, err := readToken(filepath.Join(home, tokenName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return t, err
}

// readToken refuses a file that others may have written or read.
func readToken(path string) (string, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() && os.Geteuid() != 0 {
		return "", fmt.Errorf("the token file %s belongs to another user\n  fix: remove it; the coordinator makes a new one", path)
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("the token file %s may be read by others (mode %04o)\n  fix: chmod 600 %s", path, fi.Mode().Perm(), path)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(raw)), nil
}

// ensureToken reads the token of a state folder, or makes one: 32 random bytes.
func ensureToken(home string) (string, error) {
	path := filepath.Join(home, tokenName)
	for {
		t, err := readToken(path)
		if err == nil && t != "" || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return t, err
		}
		var b [32]byte
		_, _ = rand.Read(b[:])
		// Linked into place, so that nobody reads half a token and two writers agree.
		tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
		if err := os.WriteFile(tmp, []byte(hex.EncodeToString(b[:])+"\n"), 0o600); err != nil {
			return "", fmt.Errorf("token of the control port: %w", err)
		}
		if t == "" && err == nil {
			_ = os.Remove(path) // empty
		}
		err = os.Link(tmp, path)
		_ = os.Remove(tmp)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("token of the control port: %w", err)
		}
	}
}

// dialPatience bounds the way to a coordinator.
const dialPatience = 5 * time.Second

// errNoCoordinator: nobody listens there.
var errNoCoordinator = errors.New("connection refused")

// dial connects to the coordinator as a command line.
func (t *target) dial(ctx context.Context) (*ws.Client, error) {
	return t.dialAs(ctx, "cli", nil)
}

func (t *target) dialAs(ctx context.Context, role string, handlers map[string]ws.ClientHandler) (*ws.Client, error) {
	token, err := findToken()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	c, err := ws.DialServing(ctx, ws.Target{Addr: t.hostPort(), Token: token}, ws.HelloParams{Version: version, Role: role}, handlers)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, t.noCoordinator()
	}
	var said *ws.Error
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ws.ErrLost) {
		return nil, fmt.Errorf("the coordinator at %s hung up: %w", t.hostPort(), errors.Join(ws.ErrLost, err))
	}
	if err != nil && !errors.As(err, &said) {
		//lint:ignore ST1005 users and scripts search for this wording
		return nil, fmt.Errorf("Could not connect to dora-coordinator at %s: %w\n  hint: `dora up` starts one here; DORA_COORDINATOR_ADDR and DORA_COORDINATOR_PORT say where it is", t.hostPort(), err)
	}
	return c, err
}

func (t *target) noCoordinator() error {
	//lint:ignore ST1005 users and scripts search for this wording
	return fmt.Errorf("Could not connect to dora-coordinator at %s: nobody listens there (%w)\n  hint: start it with `dora up`", t.hostPort(), errNoCoordinator)
}

// call makes one call to the coordinator.
func (t *target) call(ctx context.Context, method string, params, out any) error {
	c, err := t.connection(ctx)
	if err != nil {
		return err
	}
	return c.Call(ctx, method, params, out)
}

// connection is the one that the calls of this command share. It ends with the process.
func (t *target) connection(ctx context.Context) (*ws.Client, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != nil {
		select {
		case <-t.conn.Done(): // another coordinator may be there now
			t.conn.Close()
			t.conn = nil
		default:
			return t.conn, nil
		}
	}
	c, err := t.dial(ctx)
	if err == nil {
		t.conn = c
	}
	return c, err
}

// redialFor is how long a command that waits stands the absence of the coordinator.
const redialFor = time.Minute

// callAgain makes a call that may be repeated: over a coordinator that is killed and
// comes back, too.
func (t *target) callAgain(ctx context.Context, method string, params, out any) error {
	var lost time.Time
	for {
		err := t.call(ctx, method, params, out)
		again := errors.Is(err, ws.ErrLost) || !lost.IsZero() && errors.Is(err, errNoCoordinator)
		if !again || ctx.Err() != nil {
			return err
		}
		if lost.IsZero() {
			lost = time.Now()
			fmt.Fprintln(os.Stderr, "the coordinator is away; waiting for it to come back")
		}
		if time.Since(lost) > redialFor {
			return err
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}
