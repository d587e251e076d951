package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dora-go/dora/actors"
	"github.com/dora-go/dora/shim/contain"
	"github.com/dora-go/dora/shim/folder"
	"github.com/dora-go/dora/shim/launch"
	"github.com/sirupsen/logrus"
)

// daemonLauncher starts shims that outlive the daemon, and finds those of the daemon
// before.
type daemonLauncher struct {
	home string
	log  *logrus.Logger
}

var _ actors.Adopter = (*daemonLauncher)(nil)

// Launch implements actors.Launcher.
func (l *daemonLauncher) Launch(ctx context.Context, req actors.LaunchRequest) (actors.Shim, error) {
	var h *launch.Handle
	var err error
	for range launchTries { // something may have killed it on its way
		h, err = launch.Launch(ctx, launch.Options{StateDir: l.home, Dataflow: req.Dataflow, Token: req.Token, Epoch: req.Epoch, Version: version})
		if err == nil {
			return l.serve(h, req)
		}
		if ctx.Err() != nil || errors.Is(err, folder.ErrHeld) {
			break
		}
		l.log.WithField("dataflow", req.Dataflow).Warnf("%v; trying again", err)
	}
	return nil, err
}

// launchTries is how often a shim is started that ends before it is ready.
const launchTries = 3

// Adopt implements actors.Adopter. What a dead shim had written down is told first.
func (l *daemonLauncher) Adopt(ctx context.Context, req actors.LaunchRequest) (actors.Shim, error) {
	found, err := launch.Claim(l.home, req.Dataflow, req.Token)
	if err != nil {
		return nil, err
	}
	if found.Alive {
		h, err := l.adopt(ctx, &found)
		if h != nil {
			return l.serve(h, req)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			// Nobody could ever tell its nodes anything again.
			l.log.WithField("dataflow", req.Dataflow).Errorf("the shim lives and cannot be reached, so it is ended: %v", err)
			if err := found.Stop(ctx, true); err != nil {
				return nil, fmt.Errorf("the shim of dataflow %s lives, cannot be reached, and cannot be ended: %w", req.Dataflow, err)
			}
		}
	}
	if err := found.Clear(); err != nil {
		l.log.WithField("dataflow", req.Dataflow).Warn(err)
	}
	deliverLeftFacts(found.Dir, req)
	return nil, actors.ErrNoShim
}

// adopt connects to a shim that lives; nil if it ends meanwhile. A connection that was lost
// before it could be used says nothing about the shim.
func (l *daemonLauncher) adopt(ctx context.Context, found *launch.Found) (*launch.Handle, error) {
	for begin := time.Now(); ; {
		h, err := launch.Adopt(ctx, *found)
		if err == nil {
			return h, nil
		}
		again, lookErr := found.Again()
		if lookErr != nil {
			return nil, errors.Join(err, lookErr)
		}
		if *found = again; !again.Alive {
			return nil, nil
		}
		if time.Since(begin) > launch.DefaultTimeout || ctx.Err() != nil {
			return nil, err
		}
		l.log.WithField("dataflow", found.Dataflow).Warnf("%v; trying again", err)
		time.Sleep(adoptPause)
	}
}

// adoptPause is between two attempts to reach a shim that lives.
const adoptPause = 100 * time.Millisecond

func (l *daemonLauncher) serve(h *launch.Handle, req actors.LaunchRequest) (actors.Shim, error) {
	s := &daemonShim{newShimConn(h, req, nil)}
	go s.read()
	return s, nil
}

// daemonShim is a shim that works on when it is let go of.
type daemonShim struct{ *shimConn }

// Close implements actors.Shim.
func (s *daemonShim) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		s.mu.Lock()
		conn := s.conn
		s.mu.Unlock()
		conn.Close()
	})
	return s.h.Close()
}

// sweepShims removes what dead shims of dataflows left that are over.
func (l *daemonLauncher) sweepShims(over func(uuid string) bool) {
	defer contain.SweepCgroups()
	defer folder.SweepSockets()
	found, err := launch.Find(l.home)
	if err != nil {
		l.log.Warn(err)
	}
	for _, f := range found {
		if f.Alive || f.Owner.Run || !over(f.Dataflow) {
			continue
		}
		if err := f.Remove(); err != nil && !errors.Is(err, context.Canceled) {
			l.log.WithField("dataflow", f.Dataflow).Warn(err)
		}
	}
}
