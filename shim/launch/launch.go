package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/dora-go/dora/shim/factlog"
	"github.com/dora-go/dora/shim/folder"
	"github.com/dora-go/dora/shim/guard"
	"github.com/dora-go/dora/transport/link"
)

// DefaultTimeout bounds Launch and Adopt, unless the context ends sooner.
const DefaultTimeout = 10 * time.Second

// Options says which shim to start.
type Options struct {
	// Executable is the dora binary; empty means this process's own file, even if it was
	// replaced since.
	Executable string
	// StateDir is the state folder (DORA_HOME); made absolute.
	StateDir string
	// Dataflow is the UUID of the dataflow.
	Dataflow string
	// Token names this shim to the daemon; empty means a fresh one.
	Token string
	// Epoch below which the shim refuses commands from its first moment.
	Epoch uint64
	// Version of dora, for the hello.
	Version string
	// ParentPipe ends the shim, and everything below, as soon as this process is gone or
	// the Handle is closed (`dora run`).
	ParentPipe bool
	// StarterSocket is a socket of this process, removed with ParentPipe's end should this
	// process be killed.
	StarterSocket string
	// NoCgroup leaves cgroups alone, even where they are delegated to this user.
	NoCgroup bool
	// IdleTimeout is how long the shim stays when it has no daemon, no node and nothing
	// to tell; 0 means one minute.
	IdleTimeout time.Duration
	// Env is the environment of guard and shim; nil means this process's. The nodes'
	// environment comes with link.Load.
	Env []string
	// Ahead is a guard with its shim that was started already; Executable, Env and NoCgroup
	// are then settled. It belongs to Launch.
	Ahead *guard.Pair
	// Timeout until the shim has introduced itself (DefaultTimeout).
	Timeout time.Duration
}

// Launch starts a guard and its shim and connects to it.
func Launch(ctx context.Context, o Options) (*Handle, error) {
	h, err := begin(ctx, o)
	if err != nil && o.Ahead != nil {
		o.Ahead.Drop()
	}
	return h, err
}

func begin(ctx context.Context, o Options) (*Handle, error) {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Token == "" {
		o.Token = folder.NewName() + folder.NewName()
	}
	state, err := filepath.Abs(o.StateDir)
	if err != nil {
		return nil, fmt.Errorf("launch shim: state folder %s: %w", o.StateDir, err)
	}
	dir, err := folder.Create(state, o.Dataflow)
	if err != nil {
		return nil, fmt.Errorf("launch shim: %w", err)
	}
	if held, err := folder.Held(dir); err != nil {
		return nil, fmt.Errorf("launch shim: %w", err)
	} else if held {
		owner, _ := folder.ReadOwner(dir)
		return nil, fmt.Errorf("launch shim: dataflow %s has a live shim already (pid %d): %w", o.Dataflow, owner.PID, folder.ErrHeld)
	}
	// A shim that was killed with its guard may have left processes; they must not meet
	// those of the new one.
	if old, err := folder.ReadOwner(dir); err == nil && old.BootID == folder.BootID() {
		clear(old)
	}
	if err := folder.WriteWant(dir, folder.Want{Token: o.Token, Epoch: o.Epoch}); err != nil {
		return nil, fmt.Errorf("launch shim: %w", err)
	}
	h := &Handle{dir: dir, parentPipe: o.ParentPipe, lost: make(chan struct{}), closed: make(chan struct{})}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	if err := h.launch(ctx, o); err != nil {
		h.abandon()
		return nil, fmt.Errorf("launch shim of dataflow %s: %w", o.Dataflow, err)
	}
	return h, nil
}

func (h *Handle) launch(ctx context.Context, o Options) error {
	if err := h.startPair(o); err != nil {
		return err
	}
	defer h.pair.Ready().Close()
	r, err := readReady(ctx, h.pair.Ready())
	if err != nil {
		return h.explain(err)
	}
	if r.Error != "" {
		return errors.New(r.Error)
	}
	h.owner = r.Owner
	return h.connect(ctx)
}

// startPair tells a guard and its shim what they are for: those that were started ahead,
// or else new ones.
func (h *Handle) startPair(o Options) error {
	socket, err := folder.SocketPath()
	if err != nil {
		return err
	}
	cfg := guard.Config{
		Dir: h.dir, Socket: socket, Dataflow: o.Dataflow, Token: o.Token, Version: o.Version,
		ParentPipe: o.ParentPipe, IdleTimeout: o.IdleTimeout, Mark: folder.NewName(), StarterSocket: o.StarterSocket,
	}
	if h.pair = o.Ahead; h.pair != nil {
		_ = h.pair.Configure(cfg) // as below
		return nil
	}
	stderr, err := os.OpenFile(filepath.Join(h.dir, folder.StderrName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer stderr.Close()
	h.pair, err = guard.Start(guard.StartOptions{Executable: o.Executable, Env: o.Env, Stderr: stderr, NoCgroup: o.NoCgroup})
	if err != nil {
		return fmt.Errorf("start guard: %w", err)
	}
	_ = h.pair.Configure(cfg) // if it is gone, its silence is noticed and explained
	return nil
}

func readReady(ctx context.Context, r *os.File) (folder.Ready, error) {
	var msg folder.Ready
	if t, ok := ctx.Deadline(); ok {
		r.SetReadDeadline(t)
	}
	stop := context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	body, err := io.ReadAll(io.LimitReader(r, 64<<10))
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if err = ctx.Err(); err == nil {
				err = context.DeadlineExceeded // the pipe's clock was a little faster
			}
		}
		return msg, fmt.Errorf("the shim does not answer: %w", err)
	}
	if len(body) == 0 {
		return msg, errors.New("guard or shim ended at once")
	}
	if err := json.Unmarshal(body, &msg); err != nil {
		return msg, fmt.Errorf("the shim's answer is damaged: %w", err)
	}
	return msg, nil
}

// explain adds what guard and shim printed.
func (h *Handle) explain(err error) error {
	select {
	case <-h.pair.Done():
	case <-time.After(200 * time.Millisecond):
	}
	b, _ := os.ReadFile(filepath.Join(h.dir, folder.StderrName))
	if len(b) > 2000 {
		b = b[len(b)-2000:]
	}
	if text := strings.TrimSpace(string(b)); text != "" {
		return fmt.Errorf("%w; it printed: %s", err, text)
	}
	return err
}

// abandon gives up on a shim that was never reached, and removes a folder that has no
// history.
func (h *Handle) abandon() {
	if h.Conn != nil {
		h.Conn.Close()
	}
	if h.pair != nil {
		h.pair.Close()
		// The shim finds another token, should it still be on its way to the lock.
		folder.WriteWant(h.dir, folder.Want{Token: "none-" + folder.NewName()})
		h.pair.Signal(syscall.SIGTERM)
		select {
		case <-h.pair.Done():
		case <-time.After(time.Second):
		}
	}
	if held, err := folder.Held(h.dir); err != nil || held {
		return
	}
	if facts, err := factlog.Read(filepath.Join(h.dir, folder.FactsName)); err != nil || len(facts) == 0 {
		os.RemoveAll(h.dir)
	}
}

// connect dials the shim, reads its hello, and starts to watch its life.
func (h *Handle) connect(ctx context.Context) error {
	conn, hello, err := dial(ctx, h.owner)
	if err != nil {
		return err
	}
	h.Conn, h.Hello = conn, hello
	if err := h.watch(); err != nil {
		conn.Close()
		return err
	}
	return nil
}

func dial(ctx context.Context, owner folder.Owner) (*link.Conn, *link.Hello, error) {
	until, ok := ctx.Deadline()
	if !ok {
		until = time.Now().Add(DefaultTimeout)
	}
	conn, err := link.Dial(owner.Socket, time.Until(until))
	if err != nil {
		return nil, nil, err
	}
	conn.SetDeadline(until)
	msg, err := conn.ReadMessage()
	if err == nil && msg.Hello == nil {
		err = errors.New("the first message is no hello")
	}
	if err == nil && msg.Hello.Token != owner.Token {
		err = fmt.Errorf("the shim has token %q, not %q", msg.Hello.Token, owner.Token)
	}
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("hello of shim %d: %w", owner.PID, err)
	}
	conn.SetDeadline(time.Time{})
	return conn, msg.Hello, nil
}
