package shim

import (
	"net"
	"sync"
	"time"

	"github.com/dora-go/dora/transport/link"
)

const (
	// writeDeadline ends a connection whose daemon does not read.
	writeDeadline = 10 * time.Second
	// Live log lines that wait for a slow daemon: a few of the longest (1 MiB) at least.
	maxLiveLines = 4096
	maxLiveBytes = 4 << 20
	// batch bounds the facts of one write.
	batch = 256
)

// session is one connection of a daemon. There is at most one.
type session struct {
	shim *Shim
	conn *link.Conn
	wake chan struct{}
	done chan struct{} // closed when both directions have ended

	flushed chan struct{} // closed when the writer has ended
	closed  chan struct{}
	once    sync.Once

	mu      sync.Mutex
	replies []link.Message
	logs    bool
	live    []link.Message
	size    int // bytes of live
	gap     uint64
	ending  bool // flush, then close
}

// serve accepts daemons until the listener closes; a newer one replaces the older.
func (s *Shim) serve(l net.Listener) {
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		ss := &session{shim: s, conn: link.NewConn(nc), wake: make(chan struct{}, 1),
			done:   make(chan struct{}),
			closed: make(chan struct{}), flushed: make(chan struct{})}
		if old := s.attach(ss); old != nil {
			old.close()
			<-old.done // no command of the old one is executed after one of the new
		}
		go ss.run()
	}
}

func (ss *session) run() {
	defer ss.shim.recovered("daemon connection")
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		defer close(ss.flushed)
		defer ss.shim.recovered("daemon connection")
		ss.write()
	}()
	ending := ss.read()
	if !ending {
		ss.close()
	}
	wg.Wait()
	if ending {
		// The connection stays open until the process ends: its end means "all is done".
		ss.shim.end("the daemon said so", true)
		return
	}
	ss.shim.detach(ss)
	close(ss.done)
}

func (ss *session) close() {
	ss.once.Do(func() {
		close(ss.closed)
		ss.conn.Close()
	})
}

// flush has everything sent that there is, and nothing after it.
func (ss *session) flush(limit time.Duration) {
	ss.mu.Lock()
	ss.ending = true
	ss.mu.Unlock()
	ss.poke()
	select {
	case <-ss.flushed:
	case <-time.After(limit):
	}
}

func (ss *session) poke() {
	select {
	case ss.wake <- struct{}{}:
	default:
	}
}

// read executes commands, one after the other, and answers each. It returns true after
// an End.
func (ss *session) read() bool {
	for {
		cmd, err := ss.conn.ReadCommand()
		if err != nil {
			return false
		}
		reply, end := ss.shim.handle(ss, cmd)
		ss.mu.Lock()
		ss.replies = append(ss.replies, link.Message{Reply: reply})
		ss.ending = ss.ending || end
		ss.mu.Unlock()
		ss.poke()
		if end {
			return true
		}
	}
}

// write sends the hello, then replies, facts and log lines as they come. A node's lines
// that were there before a fact are sent before it.
func (ss *session) write() {
	hello := ss.shim.hello()
	if ss.send([]link.Message{{Hello: hello}}) != nil {
		ss.close()
		return
	}
	var sent uint64
	for {
		facts := ss.shim.facts.after(sent, batch)
		ss.mu.Lock()
		out := ss.replies
		ss.replies = nil
		out = append(out, ss.takeLive()...)
		ending := ss.ending
		ss.mu.Unlock()
		for i := range facts {
			out = append(out, link.Message{Fact: &facts[i]})
			sent = facts[i].Seq
		}
		if len(out) > 0 && ss.send(out) != nil {
			ss.close()
			return
		}
		if len(facts) == batch {
			continue // there may be more
		}
		if ending {
			return // flushed
		}
		select {
		case <-ss.wake:
		case <-ss.closed:
			return
		}
	}
}

func (ss *session) send(out []link.Message) error {
	ss.conn.SetWriteDeadline(time.Now().Add(writeDeadline))
	return ss.conn.SendAll(out)
}

// takeLive empties the queue of log lines; ss.mu is held.
func (ss *session) takeLive() []link.Message {
	out := ss.live
	if ss.gap > 0 {
		out = append(out, link.Message{LogGap: &link.LogGap{Count: ss.gap}})
	}
	ss.live, ss.size, ss.gap = nil, 0, 0
	return out
}

// line queues a log line if the daemon wants them; if it is slow, the line is counted.
func (ss *session) line(l link.LogLine) {
	ss.mu.Lock()
	if !ss.logs {
		ss.mu.Unlock()
		return
	}
	n := len(l.Message) + 256
	if len(ss.live) >= maxLiveLines || (ss.size+n > maxLiveBytes && len(ss.live) > 0) {
		ss.gap++
	} else {
		kept := l // l itself need not go to the heap where nobody listens
		ss.live = append(ss.live, link.Message{Log: &kept})
		ss.size += n
	}
	ss.mu.Unlock()
	ss.poke()
}
