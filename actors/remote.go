package actors

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dora-go/dora/transport/ws"
)

// DaemonConn is the coordinator's connection to a daemon (*ws.Session).
type DaemonConn interface {
	Call(ctx context.Context, method string, params, out any) error
	Close()
}

// remote is the daemon of one machine as the coordinator sees it: what outlives its actor.
type remote struct {
	c       *Coordinator
	machine string

	mu      sync.Mutex
	conn    DaemonConn // nil: away
	reg     ws.Register
	version string
	address string
	since   time.Time // of the connection, or of its loss
	heard   time.Time
	cursor  uint64 // of the present journal
	seen    bool   // it was connected in this life of the coordinator
	pid     *actor.PID
}

// connected is the connection, and a number that changes with it.
func (r *remote) connected() (DaemonConn, ws.Register) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conn, r.reg
}

// current says whether this is the daemon's connection.
func (r *remote) current(conn DaemonConn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return conn != nil && r.conn == conn
}

// DaemonInfo is a daemon as the coordinator sees it.
type DaemonInfo struct {
	Machine, Journal string
	Version          string
	PID              int
	BootID           string
	Host, Home       string
	Address          string
	Connected        bool
	// Since is when it was connected, or lost; Heard when it last said anything.
	Since, Heard time.Time
	// Behind is how many of its facts are not known here (as far as that is known).
	Behind uint64
}

// Daemons lists all daemons that were ever here.
func (c *Coordinator) Daemons() []DaemonInfo {
	var out []DaemonInfo
	for _, r := range c.allRemotes() {
		r.mu.Lock()
		info := DaemonInfo{
			Machine: r.machine, Journal: r.reg.Journal, Version: r.version, PID: r.reg.PID, BootID: r.reg.BootID,
			Host: r.reg.Host, Home: r.reg.Home, Address: r.address, Connected: r.conn != nil, Since: r.since, Heard: r.heard,
		}
		if r.reg.Head > r.cursor {
			info.Behind = r.reg.Head - r.cursor
		}
		r.mu.Unlock()
		out = append(out, info)
	}
	return out
}

// Register takes a daemon's connection over. Detach must be called when it ends.
func (c *Coordinator) Register(ctx context.Context, conn DaemonConn, reg ws.Register, version, address string) (ws.Registered, error) {
	if err := checkRegister(reg); err != nil {
		return ws.Registered{}, err
	}
	r, err := c.remoteOf(reg.Machine)
	if err != nil {
		return ws.Registered{}, err
	}
	answer := make(chan registration, 1)
	c.tell(r.pidOf(), registerMsg{conn: conn, reg: reg, version: version, address: address, answer: answer})
	select {
	case a := <-answer:
		return a.ok, a.err
	case <-ctx.Done():
		return ws.Registered{}, ctx.Err()
	}
}

// maxMachineID in bytes is upstream's limit.
const maxMachineID = 256

// CheckMachineID tells what is wrong with a machine id: it becomes part of file names.
func CheckMachineID(id string) error {
	if id == "" || len(id) > maxMachineID {
		return fmt.Errorf("a machine id has 1 to %d bytes, not %d", maxMachineID, len(id))
	}
	for i, r := range id {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.' && i > 0
		if !letter {
			return fmt.Errorf("machine id %q holds %q; letters, digits, `_`, `-` and `.` are allowed, and no `.` at the start", id, r)
		}
	}
	return nil
}

func checkRegister(reg ws.Register) error {
	if err := CheckMachineID(reg.Machine); err != nil {
		return ws.Errorf(ws.CodeBadRequest, "%v", err)
	}
	if reg.Journal == "" || len(reg.Journal) > maxMachineID {
		return ws.Errorf(ws.CodeBadRequest, "a daemon registers with the id of its journal")
	}
	return nil
}

// TakeFacts stores facts; it returns when they are durable.
func (c *Coordinator) TakeFacts(ctx context.Context, conn DaemonConn, machine string, f *ws.Facts) (ws.FactsStored, error) {
	return c.take(ctx, machine, factsMsg{conn: conn, facts: f})
}

// TakeState stores a state in place of facts.
func (c *Coordinator) TakeState(ctx context.Context, conn DaemonConn, machine string, s *ws.State) (ws.FactsStored, error) {
	return c.take(ctx, machine, factsMsg{conn: conn, state: s})
}

func (c *Coordinator) take(ctx context.Context, machine string, m factsMsg) (ws.FactsStored, error) {
	r, err := c.remoteOf(machine)
	if err != nil {
		return ws.FactsStored{}, err
	}
	answer := make(chan stored, 1)
	m.answer = answer
	c.tell(r.pidOf(), m)
	select {
	case a := <-answer:
		return ws.FactsStored{Cursor: a.cursor}, a.err
	case <-ctx.Done():
		return ws.FactsStored{}, ctx.Err()
	}
}

// Heard notes that a daemon is there.
func (c *Coordinator) Heard(machine string) {
	c.mu.Lock()
	r := c.remotes[machine]
	c.mu.Unlock()
	if r != nil {
		r.mu.Lock()
		r.heard = c.env.clock.Now()
		r.mu.Unlock()
	}
}

// Detach tells that a daemon's connection has ended.
func (c *Coordinator) Detach(conn DaemonConn, machine string) {
	c.mu.Lock()
	r := c.remotes[machine]
	c.mu.Unlock()
	if r != nil {
		c.tell(r.pidOf(), detachMsg{conn})
	}
}
