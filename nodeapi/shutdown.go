package nodeapi

import (
	"os"
	ossignal "os/signal"
	"sync"
	"syscall"

	"github.com/dora-go/dora/transport/nodewire"
)

// Shutdown ends the node's events as a stop of the dataflow does: a [Stop] comes next,
// then the messages that were queued before it, then the end. The loop can finish its
// work and close the node. Other nodes are not stopped.
func (n *Node) Shutdown() {
	n.queue.push(item{ev: nodewire.Event{Kind: nodewire.Stop}})
}

// ShutdownOn calls Shutdown when the process gets one of these signals; without any,
// SIGTERM or SIGINT. It ends with the returned function, or with the node; then the
// signals do again what they did before. The node does none of this by itself: signals
// are the program's.
//
// dora sends SIGTERM to a node that has not ended in time after a Stop, and SIGKILL if
// that does not help either.
func (n *Node) ShutdownOn(signals ...os.Signal) (cancel func()) {
	if len(signals) == 0 {
		signals = []os.Signal{syscall.SIGTERM, os.Interrupt}
	}
	got, done := make(chan os.Signal, 1), make(chan struct{})
	ossignal.Notify(got, signals...)
	go func() {
		defer ossignal.Stop(got)
		for {
			select {
			case <-got:
				n.Shutdown()
			case <-n.ctx.Done():
				return
			case <-done:
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		ossignal.Stop(got)
		close(done)
	})
}
