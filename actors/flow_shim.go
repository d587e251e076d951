package actors

import (
	"errors"
	"fmt"
	"time"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/transport/link"
)

// This file is the dataflow's side of its shim: starting one, finding one again, and
// noticing that one is gone.

// errEnvironmentGone is why a dataflow cannot get a new shim after a recovery.
var errEnvironmentGone = errors.New("its shim and the daemon that had started it were both killed, and the environment of its nodes is not kept; start it again")

// launch starts or finds the shim of the present incarnation, in a goroutine: nodes
// record their intents meanwhile.
func (a *flowActor) launch(adopt bool) {
	incarnation := a.s.Shim.Incarnation
	a.f.beginShim(incarnation, adopt)
	d, f := a.f.d, a.f
	req := LaunchRequest{
		Dataflow: f.uuid, Token: a.s.Shim.Token, Epoch: d.env.epoch,
		Sink: func(m link.Message) { f.sink(incarnation, m) },
		Lost: func(err error) { f.post(inboxItem{incarnation: incarnation, lost: &lostNotice{err: err}}) },
	}
	d.goroutines.Go(func() {
		var shim Shim
		var err error
		if adopt {
			shim, err = d.adopter().Adopt(d.ctx, req)
		} else {
			shim, err = d.opts.Launcher.Launch(d.ctx, req)
		}
		if err == nil && shim == nil {
			err = ErrNoShim
		}
		f.post(inboxItem{incarnation: incarnation, launched: &launched{shim: shim, err: err}})
	})
}

// beginShim forgets everything about the shim before.
func (f *flow) beginShim(incarnation int, adopt bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shim != nil {
		f.shim.Close()
	}
	f.shim, f.hello, f.loaded, f.ready, f.lost = nil, false, false, false, nil
	f.incarnation, f.needHello = incarnation, adopt
	f.catchUp, f.arrived = 0, 0
	f.acks.reset(0, 0)
	f.beginConnection()
}

// beginConnection forgets what was sent; mu is held.
func (f *flow) beginConnection() {
	f.connection++
	f.sent = sentFlow{Connection: f.connection}
	clear(f.replies)
	clear(f.sentNodes)
}

// greet takes a Hello: in the goroutine that reads from the shim, so that no fact can
// be counted before it.
func (f *flow) greet(incarnation int, h *link.Hello) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if incarnation != f.incarnation {
		return
	}
	if f.hello { // again: the connection was lost in between
		f.ready = false
		f.beginConnection()
	}
	f.hello = true
	f.loaded = h.Loaded
	f.acks.reset(h.FirstUnacked, h.LastFact)
	f.arrived, f.catchUp = 0, 0
	if h.Loaded && h.FirstUnacked > 0 {
		f.catchUp = h.LastFact
	}
}

// adopt looks for the shim that an earlier daemon, or an earlier life of this actor,
// left.
func (a *flowActor) adopt() {
	a.f.mu.Lock()
	known := a.f.incarnation == a.s.Shim.Incarnation
	a.f.mu.Unlock()
	switch {
	case known: // launched, or being looked for
	case a.s.Finished != nil && !a.s.Shim.up():
		a.f.markGone()
	case a.s.Shim.Phase == shimLost: // and perhaps not all nodes have recorded it
		a.f.beginShim(a.s.Shim.Incarnation, true)
		a.f.endShim(a.now(), a.s.Shim.Error)
		a.f.nudgeAll()
	case a.f.d.adopter() != nil:
		a.launch(true)
	default:
		a.f.beginShim(a.s.Shim.Incarnation, true)
		a.onLost(ErrNoShim)
	}
}

// relaunch starts another shim after one was lost.
func (a *flowActor) relaunch() {
	if a.f.load == nil {
		a.must(events.ShimLost{Token: a.s.Shim.Token, Error: errEnvironmentGone.Error()})
		a.order()
		return
	}
	recs := records(a.now(), 0, []events.Event{events.ShimStartIntended{Token: a.f.d.opts.NewToken()}})
	if _, err := a.led.write(recs, false); err != nil {
		if errors.Is(err, journal.ErrConflict) {
			panic(err)
		}
		// A shim whose intent is not recorded could not be found again.
		a.log.Warnf("no new shim while the journal cannot be written: %v; trying again", err)
		a.armRetry()
		return
	}
	a.led.release(a.f, 0, 0)
	a.applyAll(recs)
	a.launch(false)
	a.f.nudgeAll() // restarts that were due meanwhile
}

func (a *flowActor) onHello(h *link.Hello) {
	if h.Protocol != link.Version || h.Token != a.s.Shim.Token {
		a.log.Errorf("the shim speaks protocol %d as %q; expected protocol %d and %q: it is ended",
			h.Protocol, h.Token, link.Version, a.s.Shim.Token)
		a.f.send(link.Command{End: &link.End{}}, nil, nil)
		a.onLost(fmt.Errorf("the shim speaks protocol %d, this dora speaks %d", h.Protocol, link.Version))
		return
	}
	if a.s.Shim.Phase == shimIntended && a.s.Finished == nil {
		a.must(events.ShimStarted{Token: h.Token, PID: h.PID, BootID: h.BootID, Version: h.Version})
	}
	a.connect()
}

func (a *flowActor) onLaunched(l *launched) {
	if l.err != nil {
		if errors.Is(l.err, ErrNoShim) {
			a.onLost(l.err)
			return
		}
		a.log.Errorf("no shim: %v", l.err)
		if a.s.Finished != nil {
			a.f.endShim(a.now(), "")
			return
		}
		a.must(events.ShimLost{Token: a.s.Shim.Token, Error: l.err.Error()})
		a.f.endShim(a.now(), l.err.Error())
		a.order()
		a.f.nudgeAll()
		return
	}
	if !a.s.Shim.up() {
		l.shim.Close() // it was lost before we knew that it was there
		return
	}
	a.f.mu.Lock()
	a.f.shim = l.shim
	a.f.mu.Unlock()
	a.connect()
}

// connect tells a connected shim the dataflow, and lets commands flow.
func (a *flowActor) connect() {
	a.f.mu.Lock()
	wait := a.f.shim == nil || a.f.needHello && !a.f.hello || a.f.ready
	loaded := a.f.loaded
	a.f.mu.Unlock()
	if wait {
		return
	}
	if !loaded {
		if a.f.load == nil {
			// It died with its daemon before it was told anything.
			a.f.send(link.Command{End: &link.End{}}, nil, nil)
			return
		}
		load := link.Command{Load: a.f.load}
		if !a.f.send(load, nil, a.onReply(load)) {
			return
		}
	}
	a.f.mu.Lock()
	a.f.loaded = true
	a.f.setReady(a.f.catchUp == 0 || a.f.arrived >= a.f.catchUp)
	a.f.mu.Unlock()
	a.f.nudgeAll()
}

// onLost: the shim's lock is free; its processes are gone.
func (a *flowActor) onLost(err error) {
	a.f.endShim(a.now(), "")
	if a.s.Shim.up() {
		if a.s.Stop == nil && a.s.Finished == nil {
			a.log.Warnf("the shim is lost: %v", err)
		}
		// After the end of the dataflow, this says that there is nothing left to end.
		a.must(events.ShimLost{Token: a.s.Shim.Token})
	}
	if a.s.Finished != nil {
		a.f.markGone()
		return
	}
	a.f.nudgeAll()
}

// endShim forgets the connection; nodes record what became of them.
func (f *flow) endShim(now time.Time, launchError string) {
	f.mu.Lock()
	shim := f.shim
	f.shim, f.ready = nil, false
	f.lost = &lostShim{At: now, Error: launchError}
	closeOnce(f.known)
	clear(f.replies)
	f.mu.Unlock()
	if shim != nil {
		shim.Close()
	}
}

// armDeadline watches over stops and ends: what takes longer than it can take is ended
// by force, one step after the other.
func (a *flowActor) armDeadline() {
	at, act := a.nextDeadline()
	if at.IsZero() {
		return
	}
	if left := at.Sub(a.now()); left > 0 {
		if !at.Equal(a.deadlineAt) {
			if a.deadline != nil {
				a.deadline.Stop()
			}
			a.deadlineAt, a.deadline = at, a.after(left, nudge{})
		}
		return
	}
	act()
}

func (a *flowActor) nextDeadline() (time.Time, func()) {
	if !a.f.hasShim() {
		return time.Time{}, nil
	}
	if end := a.f.endSentAt(); !end.IsZero() {
		return end.Add(endPatience), func() {
			a.log.Errorf("the shim does not end after %s; it is cut off", endPatience)
			if a.s.Finished == nil {
				a.onLost(errors.New("it did not react"))
				return
			}
			a.f.endShim(a.now(), "") // the next daemon finds it, if it still is there
			a.f.markGone()
		}
	}
	if a.s.Stop != nil && a.s.Finished == nil {
		ladder := a.s.Stop.Grace + a.s.Stop.Grace/2
		if a.s.Stop.Force {
			ladder = 0
		}
		return a.s.StopAt.Add(ladder + stopPatience), func() {
			a.log.Errorf("the stop is %s late; the shim is ended", stopPatience)
			a.f.sendEnd(a.now())
			a.armDeadline()
		}
	}
	return time.Time{}, nil
}

func (f *flow) hasShim() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.shim != nil || f.state.Shim.up() && f.lost == nil
}

func (f *flow) endSentAt() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent.EndAt
}

// sendEnd ends the shim, once.
func (f *flow) sendEnd(now time.Time) bool {
	cmd := link.Command{End: &link.End{}}
	return f.send(cmd, func(id uint64) { f.sent.End, f.sent.EndAt = true, now }, nil)
}

// flowEffects are the commands that are due for the dataflow as a whole.
func (f *flow) flowEffects(s flowState) []link.Command {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ready {
		return nil
	}
	return f.cfg.effects(s, f.sent)
}

// publishFlow makes the dataflow's state known to queries and to those who wait.
func (f *flow) publishFlow(s flowState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state = s
	if !s.StartedAt.IsZero() {
		closeOnce(f.started)
	}
	if s.Finished != nil {
		closeOnce(f.finished)
	}
}

func (f *flow) markGone() {
	f.mu.Lock()
	defer f.mu.Unlock()
	closeOnce(f.gone)
}

// closeOnce closes a channel that is only closed under one lock.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// nextItem is the oldest thing for the dataflow's actor; doneItem removes it.
func (f *flow) nextItem() (inboxItem, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.inbox) == 0 {
		return inboxItem{}, false
	}
	return f.inbox[0], true
}

func (f *flow) doneItem() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inbox[0] = inboxItem{}
	if f.inbox = f.inbox[1:]; len(f.inbox) == 0 {
		f.inbox = nil
	}
}
