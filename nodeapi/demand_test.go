package nodeapi

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// What nobody takes is not asked for; who asks again gets what came meanwhile.
func TestDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, stop := newDemand(), make(chan struct{})
		over := func() bool {
			select {
			case <-stop:
				return true
			default:
				return false
			}
		}
		var count atomic.Int64
		brought := func() int { return int(count.Load()) }
		ended := make(chan struct{})
		go func() { // as the goroutine that receives
			defer close(ended)
			for !over() {
				d.await(over)
				time.Sleep(time.Millisecond) // the next event
				count.Add(1)
				d.untaken.Add(1)
				signal(d.fresh)
			}
		}()
		for range 500 { // somebody takes them all
			time.Sleep(time.Millisecond)
			d.asked(context.Background())
		}
		synctest.Wait()
		if brought() < 499 {
			t.Fatalf("%d events came while all were taken", brought())
		}
		before := brought()
		time.Sleep(time.Minute)
		came := brought() - before
		if most := readAhead + int(readAheadFor/time.Millisecond) + 2; came < readAhead || came > most {
			t.Errorf("%d events came while nobody took any, want %d to %d", came, readAhead, most)
		}
		before = brought()
		begin := time.Now()
		d.asked(context.Background())
		if took := time.Since(begin); brought() <= before || took > freshWait {
			t.Errorf("after a pause: %d events came within %v", brought()-before, took)
		}
		time.Sleep(time.Minute)
		close(stop)
		signal(d.resume)
		<-ended
	})
}
