package actors

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/link"
)

// F9, F10 through the actors: a sole producer is restarted, its consumer lives on.
func TestRestartOfAProducer(t *testing.T) {
	bubble(t, map[string]play{"a": {obeys: "sigterm"}}, func(t *testing.T, w *world) {
		d := open(t, w.options())
		if err := d.Start(ctx, startRequest(t, "flow", pair)); err != nil {
			t.Fatal(err)
		}
		d.Started(ctx, "flow")
		begin := time.Now()
		if err := d.RestartNode(ctx, "flow", "a", time.Second); err != nil {
			t.Fatal(err)
		}
		for {
			infos, _ := d.Nodes(ctx, "flow")
			if infos[0].Generation == 2 && infos[0].Status == StatusRunning {
				break
			}
			if infos[1].Status != StatusRunning {
				t.Fatalf("consumer: %+v", infos[1])
			}
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(begin); took < time.Second || took > 1200*time.Millisecond {
			t.Errorf("the restart took %s", took)
		}
		if err := d.StopNode(ctx, "flow", "b", time.Second, false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		infos, _ := d.Nodes(ctx, "flow")
		if infos[1].Status != StatusStopped || infos[0].Status != StatusRunning {
			t.Errorf("%+v", infos)
		}
		if err := d.Stop(ctx, "flow", StopRequest{Grace: time.Second}); err != nil {
			t.Fatal(err)
		}
		if res := wait(t, d, "flow"); res.Status != "finished" {
			t.Errorf("%+v", res)
		}
		closed(t, d)
	})
}

// E7: a deaf node. SIGTERM at 1 s, SIGKILL 0.5 s later, told, and no failure.
func TestDeafNode(t *testing.T) {
	bubble(t, map[string]play{"a": {obeys: "sigkill"}}, func(t *testing.T, w *world) {
		d := open(t, w.options())
		if err := d.Start(ctx, startRequest(t, "flow", pair)); err != nil {
			t.Fatal(err)
		}
		d.Started(ctx, "flow")
		begin := time.Now()
		if err := d.Stop(ctx, "flow", StopRequest{Cause: "stop", Grace: time.Second}); err != nil {
			t.Fatal(err)
		}
		res := wait(t, d, "flow")
		if took := time.Since(begin); took < 1500*time.Millisecond || took > 1600*time.Millisecond {
			t.Errorf("it took %s", took)
		}
		if res.Status != "finished" || !slices.Equal(res.Killed, []string{"a"}) {
			t.Errorf("%+v", res)
		}
		closed(t, d)
	})
}

// Ctrl-C twice.
func TestStopThenKill(t *testing.T) {
	bubble(t, map[string]play{"a": {obeys: "sigkill"}, "b": {obeys: "sigkill"}}, func(t *testing.T, w *world) {
		d := open(t, w.options())
		if err := d.Start(ctx, startRequest(t, "flow", pair)); err != nil {
			t.Fatal(err)
		}
		d.Started(ctx, "flow")
		d.Stop(ctx, "flow", StopRequest{Cause: "ctrl-c"})
		time.Sleep(time.Second)
		begin := time.Now()
		d.Stop(ctx, "flow", StopRequest{Cause: "ctrl-c", Force: true})
		res := wait(t, d, "flow")
		if took := time.Since(begin); took > 50*time.Millisecond || res.Status != "finished" || len(res.Killed) != 0 {
			t.Errorf("after %s: %+v", took, res)
		}
		closed(t, d)
	})
}

// A shim that does not carry out a stop is ended itself.
func TestShimThatDoesNotStop(t *testing.T) {
	bubble(t, map[string]play{"a": {obeys: "never"}}, func(t *testing.T, w *world) {
		opts := w.options()
		opts.Launcher = dropStops{opts.Launcher}
		d := open(t, opts)
		if err := d.Start(ctx, startRequest(t, "flow", pair)); err != nil {
			t.Fatal(err)
		}
		d.Started(ctx, "flow")
		begin := time.Now()
		d.Stop(ctx, "flow", StopRequest{Grace: time.Second})
		res := wait(t, d, "flow")
		if took := time.Since(begin); took < stopPatience || took > stopPatience+3*time.Second {
			t.Errorf("it took %s: %+v", took, res)
		}
		closed(t, d)
	})
}

// dropStops loses stops on their way.
type dropStops struct{ Launcher }

func (l dropStops) Launch(ctx context.Context, req LaunchRequest) (Shim, error) {
	s, err := l.Launcher.Launch(ctx, req)
	return stopDropper{s}, err
}

type stopDropper struct{ Shim }

func (s stopDropper) Send(c link.Command) error {
	if c.Stop != nil {
		return nil
	}
	return s.Shim.Send(c)
}
