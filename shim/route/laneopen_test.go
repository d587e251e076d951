//go:build zenoh && cgo && linux

package route

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/shm"
)

// silence has the node answer no more until the lanes are shut for it, and returns how many
// messages were sent until then.
func silence(t *testing.T, g *rig, ep *shm.Endpoint, r *receiver, n int) int {
	t.Helper()
	time.Sleep(quiet)
	r.mu.Lock()
	r.mute = true
	r.mu.Unlock()
	sendShared(t, ep, numbered(n, 100_000))
	g.fact("the warning", func(f link.Fact) bool {
		return f.Node == "py" && f.Warning != nil && strings.Contains(f.Warning.Text, "direct path")
	})
	return n + 1
}

// directAgain sends large messages, every 20 ms, until one comes directly.
func directAgain(t *testing.T, ep *shm.Endpoint, r *receiver, n int) int {
	t.Helper()
	_, before := r.seen()
	eventually(t, "a message comes directly again", func() bool {
		sendShared(t, ep, numbered(n, 100_000))
		n++
		r.await(t, n)
		time.Sleep(20 * time.Millisecond)
		_, direct := r.seen()
		return direct > before
	})
	return n
}

func inOrder(t *testing.T, r *receiver) {
	t.Helper()
	list, _ := r.seen()
	for i, e := range list {
		if e != fmt.Sprintf("in %d", i) {
			t.Fatalf("event %d is %q", i, e)
		}
	}
}

// However much went over the connection before, large messages then come directly.
func TestLanesAfterManySmallMessages(t *testing.T) {
	_, ep, r := goToOfficial(t, false)
	n := 0
	for range 2 {
		for range 4 * laneRoom {
			sendShared(t, ep, numbered(n, 8))
			n++
			r.await(t, n)
		}
		_, before := r.seen()
		n = directAgain(t, ep, r, n)
		time.Sleep(quiet) // until it is let go
		for range 10 {
			sendShared(t, ep, numbered(n, 100_000))
			n++
			r.await(t, n)
			time.Sleep(time.Millisecond)
		}
		if _, direct := r.seen(); direct < before+8 {
			t.Errorf("%d of 10 messages came directly after the first", direct-before-1)
		}
	}
	inOrder(t, r)
}

// A node that was late gets large messages directly again, when it answers.
func TestLanesOpenAgain(t *testing.T) {
	g, ep, r := goToOfficial(t, false)
	n := silence(t, g, ep, r, opened(t, ep, r))
	r.answer()
	directAgain(t, ep, r, directAgain(t, ep, r, n))
	inOrder(t, r)
}

// What a node answers late is not taken for an answer to what it is asked then: nothing comes
// directly until it has answered one question once.
func TestLateAnswersOpenNoLane(t *testing.T) {
	g, ep, r := goToOfficial(t, false)
	n := silence(t, g, ep, r, opened(t, ep, r))
	eventually(t, "it is asked again", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.owed > 1
	})
	_, before := r.seen()
	r.answer()
	for until := time.Now().Add(3 * laneSteady); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		sendShared(t, ep, numbered(n, 100_000))
		n++
		r.await(t, n)
	}
	if _, direct := r.seen(); direct > before {
		t.Errorf("%d messages came directly after two answers to one question", direct-before)
	}
	directAgain(t, ep, r, n)
	inOrder(t, r)
}
