package actors

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/link"
)

// flow is what outlives a crash of the actors of one dataflow: the connection to its
// shim, facts that were not worked off, what was sent, and the newest states for
// queries. Actors come and go; they read their own state from the journal.
//
// Locks: mu guards everything below it and is held for moments only; sendMu keeps
// commands in the order of their ids and may be held while a socket is written. mu may
// be taken under sendMu, never the other way round.
type flow struct {
	d     *Daemon
	uuid  string
	name  string
	desc  *dataflow.Descriptor
	cfg   *flowConfig
	nodes map[string]*nodeConfig
	// load is what a new shim is told. After a recovery it is made anew if a Vault has
	// the environment, which is not journaled, and else nil.
	load *link.Load
	// create is the start that is to be journaled, until it is.
	create *creation

	orders atomic.Pointer[orders]
	// ledgers of the dataflow ("") and its nodes; each belongs to one actor.
	ledgers map[string]*ledger

	sendMu sync.Mutex
	nextID uint64

	mu       sync.Mutex
	state    flowState
	views    nodeViews
	changed  nodeViews // since the dataflow's actor looked
	pid      *actor.PID
	nodePIDs map[string]*actor.PID

	inbox     []inboxItem           // for the dataflow's actor
	nodeInbox map[string][]nodeItem // for the nodes' actors

	shim        Shim
	incarnation int  // of the shim that shim and the inboxes belong to
	connection  int  // raised by every Hello but the first one
	hello       bool // one was heard
	needHello   bool // nothing is sent before one (an adopted shim)
	loaded      bool // the shim knows the dataflow
	ready       bool // commands may be sent
	// catchUp is the last fact that the shim announced (0: none); nothing is ordered
	// before it has arrived.
	catchUp, arrived uint64
	acks             acks
	sentNodes        map[string]sentNode
	sent             sentFlow
	replies          map[uint64]func(*link.Reply)
	// unwritten are the nodes whose actors hold records that are not durable.
	unwritten map[string]bool
	// lost is set from the loss of a shim until the next one is wanted.
	lost *lostShim

	// known is closed when the present is known: at once for a new dataflow; after a
	// recovery when all that the shim had to tell has come, or the shim is gone. Orders
	// wait for it: they are about what runs now.
	known    chan struct{}
	started  chan struct{} // closed when the barrier opened
	finished chan struct{} // closed when DataflowFinished is durable
	gone     chan struct{} // closed when the shim is gone after that
}

type creation struct {
	event  events.DataflowCreated
	params []events.Event // ParamSet
	order  string
	reply  func(error)
}

// lostShim says since when and why there is no shim.
type lostShim struct {
	At    time.Time
	Error string // set if it never came up
}

// inboxItem is one thing for the dataflow's actor; one field is set.
type inboxItem struct {
	incarnation int
	hello       *link.Hello
	fact        *link.Fact
	launched    *launched
	lost        *lostNotice
}

type launched struct {
	shim Shim
	err  error
}

type lostNotice struct{ err error }

// nodeItem is one fact for a node's actor.
type nodeItem struct {
	incarnation int
	fact        link.Fact
	// outlived: a later generation is known, so that after this exit it was restarted.
	outlived bool
}

func newFlow(d *Daemon, uuid string, desc *dataflow.Descriptor, created events.DataflowCreated) *flow {
	f := &flow{
		d: d, uuid: uuid, desc: desc, cfg: flowConfigOf(uuid, desc, created),
		nodes: map[string]*nodeConfig{}, views: nodeViews{}, changed: nodeViews{},
		nodePIDs: map[string]*actor.PID{}, nodeInbox: map[string][]nodeItem{},
		sentNodes: map[string]sentNode{}, replies: map[uint64]func(*link.Reply){}, unwritten: map[string]bool{},
		known: make(chan struct{}), started: make(chan struct{}), finished: make(chan struct{}), gone: make(chan struct{}),
	}
	f.ledgers = map[string]*ledger{"": {env: d.env, stream: events.DataflowStream(uuid)}}
	for _, n := range desc.Nodes {
		f.ledgers[n.ID] = &ledger{env: d.env, stream: events.NodeStream(uuid, n.ID)}
		f.nodes[n.ID] = nodeConfigOf(n)
		f.views[n.ID] = newNodeState()
	}
	f.orders.Store(&orders{})
	return f
}

// sink takes what the shim sends. It only files it and wakes an actor.
func (f *flow) sink(incarnation int, m link.Message) {
	switch {
	case m.Reply != nil:
		f.mu.Lock()
		reply := f.replies[m.Reply.ID]
		delete(f.replies, m.Reply.ID)
		f.mu.Unlock()
		if reply != nil {
			reply(m.Reply)
		}
	case m.Hello != nil:
		f.greet(incarnation, m.Hello)
		f.post(inboxItem{incarnation: incarnation, hello: m.Hello})
	case m.Fact != nil:
		f.file(incarnation, m.Fact)
	}
}

// file puts a fact where it belongs.
func (f *flow) file(incarnation int, fact *link.Fact) {
	if _, known := f.nodes[fact.Node]; !known {
		f.post(inboxItem{incarnation: incarnation, fact: fact})
		return
	}
	f.mu.Lock()
	f.nodeInbox[fact.Node] = append(f.nodeInbox[fact.Node], nodeItem{incarnation: incarnation, fact: *fact})
	pid := f.nodePIDs[fact.Node]
	caughtUp := f.arrive(incarnation, fact.Seq)
	f.mu.Unlock()
	f.d.tell(pid, nudge{})
	if caughtUp {
		f.nudgeAll()
	}
}

// arrive notes how far the facts of a connection have come. It says whether this was
// the last one that the shim had announced, so that commands may follow now.
func (f *flow) arrive(incarnation int, seq uint64) bool {
	if incarnation != f.incarnation {
		return false
	}
	f.arrived = max(f.arrived, seq)
	if f.catchUp == 0 || f.arrived < f.catchUp {
		return false
	}
	f.catchUp = 0
	f.setReady(f.shim != nil && f.loaded)
	return f.ready
}

// setReady lets commands flow, or not; mu is held.
func (f *flow) setReady(ready bool) {
	if f.ready = ready; ready {
		closeOnce(f.known)
	}
}

func (f *flow) post(item inboxItem) {
	f.mu.Lock()
	f.inbox = append(f.inbox, item)
	pid := f.pid
	caughtUp := item.fact != nil && f.arrive(item.incarnation, item.fact.Seq)
	f.mu.Unlock()
	f.d.tell(pid, nudge{})
	if caughtUp {
		f.nudgeAll()
	}
}

// nudgeAll wakes all actors of the dataflow.
func (f *flow) nudgeAll() {
	f.mu.Lock()
	pids := make([]*actor.PID, 0, len(f.nodePIDs)+1)
	pids = append(pids, f.pid)
	for _, n := range f.cfg.Nodes {
		pids = append(pids, f.nodePIDs[n.ID])
	}
	f.mu.Unlock()
	for _, pid := range pids {
		f.d.tell(pid, nudge{})
	}
}

// next is the oldest fact for a node, and the incarnation of the live shim. What a shim
// had to tell after its daemon was away is worked off when all of it has come.
func (f *flow) next(node string) (item nodeItem, incarnation int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := f.nodeInbox[node]
	if len(q) == 0 || f.catchUp != 0 && q[0].incarnation == f.incarnation {
		return nodeItem{}, f.incarnation, false
	}
	item = q[0]
	if item.fact.Exited != nil {
		item.outlived = slices.ContainsFunc(q, func(later nodeItem) bool {
			return later.incarnation == item.incarnation && later.fact.Generation > item.fact.Generation
		})
	}
	return item, f.incarnation, true
}

// done removes the oldest fact for a node, which next gave.
func (f *flow) done(node string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := f.nodeInbox[node]
	q[0] = nodeItem{}
	if f.nodeInbox[node] = q[1:]; len(q) == 1 {
		f.nodeInbox[node] = nil
	}
}

// settle notes facts that are durable (or void), and acknowledges what can be.
func (f *flow) settle(incarnation int, seqs ...uint64) {
	f.mu.Lock()
	if incarnation != f.incarnation {
		f.mu.Unlock()
		return
	}
	for _, seq := range seqs {
		f.acks.settle(seq)
	}
	f.mu.Unlock()
}

// acknowledge tells the shim how far facts are durable.
func (f *flow) acknowledge() {
	f.mu.Lock()
	seq, due := uint64(0), false
	if f.shim != nil {
		seq, due = f.acks.due()
	}
	f.mu.Unlock()
	if due {
		f.send(link.Command{Ack: &link.Ack{Seq: seq}}, nil, nil)
	}
}

// publish makes a node's state known to the dataflow and to queries; unwritten says
// that not all of it is durable.
func (f *flow) publish(node string, s nodeState, unwritten bool) {
	f.mu.Lock()
	if unwritten {
		f.unwritten[node] = true
	} else {
		delete(f.unwritten, node)
	}
	f.views[node], f.changed[node] = s, s
	pid := f.pid
	f.mu.Unlock()
	f.d.tell(pid, nudge{})
}

// allWritten says that everything that nodes know is durable.
func (f *flow) allWritten() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.unwritten) == 0
}

// send numbers and sends a command. note is called before it leaves, with the id and
// under mu; onReply when the shim answered. False: there is no connection; what is
// still wanted is sent after the next Hello.
func (f *flow) send(cmd link.Command, note func(id uint64), onReply func(*link.Reply)) bool {
	f.sendMu.Lock()
	defer f.sendMu.Unlock()
	f.mu.Lock()
	shim := f.shim
	if shim == nil {
		f.mu.Unlock()
		return false
	}
	f.nextID++
	cmd.ID, cmd.Epoch = f.nextID, f.d.env.epoch
	if note != nil {
		note(cmd.ID)
	}
	if onReply != nil {
		f.replies[cmd.ID] = onReply
	}
	f.mu.Unlock()
	if err := shim.Send(cmd); err != nil {
		f.d.env.log.WithField("dataflow", f.uuid).Debugf("command %d did not reach the shim: %v", cmd.ID, err)
		f.mu.Lock()
		delete(f.replies, cmd.ID)
		if f.shim == shim {
			f.ready = false // until the next Hello, or until it is lost
		}
		f.mu.Unlock()
		return false
	}
	return true
}

// query asks the shim for its view. It does not go through any actor.
func (f *flow) query(ctx context.Context) (*link.State, error) {
	answer := make(chan *link.Reply, 1)
	if !f.send(link.Command{State: &link.StateQuery{}}, nil, func(r *link.Reply) { answer <- r }) {
		return nil, fmt.Errorf("dataflow %s: %w", f.uuid, ErrNoShim)
	}
	select {
	case r := <-answer:
		if r.Error != "" || r.State == nil {
			return nil, fmt.Errorf("the shim of dataflow %s refused to tell its state: %s", f.uuid, r.Error)
		}
		return r.State, nil
	case <-f.gone:
		return nil, fmt.Errorf("dataflow %s: %w", f.uuid, ErrNoShim)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ask puts a command to the dataflow's actor.
func (f *flow) ask(ctx context.Context, answer <-chan error, msg any) error {
	if isClosed(f.finished) {
		return fmt.Errorf("dataflow %s %w", f.uuid, ErrEnded)
	}
	if err := await(ctx, f.known, f.gone); err != nil {
		return f.ended(err)
	}
	f.mu.Lock()
	pid := f.pid
	f.mu.Unlock()
	f.d.tell(pid, msg)
	return f.ended(await(ctx, answer, f.gone))
}

// askNode puts a command to a node's actor.
func (f *flow) askNode(ctx context.Context, node string, answer <-chan error, msg any) error {
	if isClosed(f.finished) {
		return fmt.Errorf("dataflow %s %w", f.uuid, ErrEnded)
	}
	if err := await(ctx, f.known, f.gone); err != nil {
		return f.ended(err)
	}
	f.mu.Lock()
	pid := f.nodePIDs[node]
	f.mu.Unlock()
	if pid == nil {
		return errInternal
	}
	f.d.tell(pid, msg)
	return f.ended(await(ctx, answer, f.gone))
}

// ended names the dataflow in a bare ErrEnded.
func (f *flow) ended(err error) error {
	if err == ErrEnded {
		return fmt.Errorf("dataflow %s %w", f.uuid, err)
	}
	return err
}

// liveName is the name, or "" once the dataflow has ended and the name is free.
func (f *flow) liveName() string {
	if isClosed(f.finished) {
		return ""
	}
	return f.name
}

// nodeList names the nodes for an error text.
func (f *flow) nodeList() string {
	ids := make([]string, len(f.cfg.Nodes))
	for i, n := range f.cfg.Nodes {
		ids[i] = n.ID
	}
	return strings.Join(ids, ", ")
}
