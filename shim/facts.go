package shim

import (
	"path/filepath"
	"sync"
	"time"

	"github.com/dora-go/dora/shim/factlog"
	"github.com/dora-go/dora/shim/folder"
	"github.com/dora-go/dora/transport/link"
)

// facts is facts.log and who is waiting for it. Its lock is a leaf: nothing is called
// while it is held, so every part of the shim and the router may report.
type facts struct {
	mu   sync.Mutex
	log  *factlog.Log
	wake func() // tells the session's writer
	sick bool   // the last append did not reach the file
}

func openFacts(dir string) (*facts, error) {
	log, err := factlog.Open(filepath.Join(dir, folder.FactsName))
	if err != nil {
		return nil, err
	}
	return &facts{log: log, wake: func() {}}, nil
}

// report writes a fact down and has it sent. It returns once the fact would survive the
// shim's death.
func (fs *facts) report(f link.Fact) {
	fs.mu.Lock()
	f.At = time.Now()
	err := fs.log.Append(&f)
	first := err != nil && !fs.sick
	fs.sick = err != nil
	if first {
		w := link.Fact{At: f.At, Warning: &link.Warning{Text: "the shim cannot write " + err.Error() +
			"; what happens now is known only while it lives (free space on the disk of the state folder)"}}
		fs.log.Append(&w) // kept in memory like the fact itself
	}
	wake := fs.wake
	fs.mu.Unlock()
	wake()
}

// warn tells the user something; node may be empty.
func (fs *facts) warn(node string, generation uint64, text string) {
	fs.report(link.Fact{Node: node, Generation: generation, Warning: &link.Warning{Text: text}})
}

func (fs *facts) ack(seq uint64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.log.Ack(seq) // an acknowledgement that is not written is repeated: harmless
}

// after copies unacknowledged facts that follow sequence number seq, at most limit.
func (fs *facts) after(seq uint64, limit int) []link.Fact {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	all := fs.log.Unacked(seq + 1)
	return append([]link.Fact(nil), all[:min(len(all), limit)]...)
}

func (fs *facts) bounds() (first, last uint64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.log.Bounds()
}

func (fs *facts) setWake(wake func()) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.wake = wake
}
