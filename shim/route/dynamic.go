package route

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
)

const (
	// maxLocalConns bounds connections to the local listen port.
	maxLocalConns = 64
	// localWait bounds the life of one: a question and its answer.
	localWait = 10 * time.Second
)

// localListener tells dynamic nodes, which know no more than their id, where to connect.
type localListener struct {
	ln    net.Listener
	port  int
	conns atomic.Int32
}

// listenLocal binds the wanted port, or a free one if another dataflow has it.
func (r *Router) listenLocal() error {
	want := r.cfg.LocalListenPort
	if want == 0 {
		want = DefaultLocalPort
	}
	ln, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(want)))
	taken := errors.Is(err, syscall.EADDRINUSE)
	if taken {
		ln, err = net.Listen("tcp4", "127.0.0.1:0")
	}
	if err != nil {
		return fmt.Errorf("route: listener for dynamic nodes on 127.0.0.1:%d: %w", want, err)
	}
	r.local = &localListener{ln: ln, port: ln.Addr().(*net.TCPAddr).Port}
	if taken {
		r.warn("", fmt.Sprintf("port %d for dynamic nodes is taken; start those of this dataflow with DORA_DAEMON_LOCAL_LISTEN_PORT=%d", want, r.local.port))
	}
	r.wg.Add(1)
	go r.acceptLocal()
	return nil
}

func (r *Router) warn(node string, text string) {
	r.cfg.Report(link.Fact{Node: node, Warning: &link.Warning{Text: text}})
}

func (r *Router) acceptLocal() {
	defer r.wg.Done()
	for {
		nc, err := r.local.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if r.local.conns.Add(1) > maxLocalConns {
			r.local.conns.Add(-1)
			_ = nc.Close()
			continue
		}
		r.wg.Add(1)
		go r.serveLocal(nc)
	}
}

// serveLocal answers one NodeConfig request.
func (r *Router) serveLocal(nc net.Conn) {
	defer r.wg.Done()
	defer r.local.conns.Add(-1)
	stop := make(chan struct{})
	defer close(stop)
	go func() { // a client that says nothing must not delay Close
		select {
		case <-r.closed:
		case <-stop:
		}
		_ = nc.Close()
	}()
	defer func() { _ = recover() }() // one connection's trouble is its own
	c := nodewire.NewConn(nc)
	c.SetLimit(maxFirstFrame)
	_ = c.SetDeadline(time.Now().Add(localWait))
	buf, err := c.ReadFrame()
	if err != nil {
		return
	}
	req, err := nodewire.DecodeRequest(buf.Bytes())
	buf.Release()
	if err != nil {
		return
	}
	if req.Kind != nodewire.GetConfig {
		_ = c.Write(nodewire.AppendResult(nil, fmt.Sprintf("this port answers dynamic nodes that ask for their configuration, not %v", req.Kind)))
		return
	}
	_ = c.Write(r.dynamicConfig(req.Node))
}

// dynamicConfig is the JSON answer for a node id.
func (r *Router) dynamicConfig(id string) []byte {
	n := r.nodes[id]
	switch {
	case n == nil:
		return nodewire.DynamicError(fmt.Sprintf("no running dataflow on this port has a node %q", printable(id)))
	case !n.dynamic:
		return nodewire.DynamicError(fmt.Sprintf("node %q is started by dora; only nodes with \"path: dynamic\" can join by themselves", id))
	}
	n.mu.Lock()
	taken := n.alive
	n.mu.Unlock()
	if taken {
		return nodewire.DynamicError(fmt.Sprintf("node %q is connected already", id))
	}
	peering, err := r.zenoh.dynamic(n)
	if err != nil {
		r.warn(id, err.Error())
	}
	cfg := r.config(n, 0)
	cfg.Shared = r.mem.invite(n)
	reply, err := cfg.DynamicReply(peering)
	if err != nil {
		return nodewire.DynamicError(err.Error())
	}
	return reply
}
