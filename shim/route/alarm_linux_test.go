package route

import (
	"testing"
	"time"
)

// An alarm is more exact than the runtime's timers, which are half a millisecond late on
// average; and who waits is let go when it is stopped.
func TestAlarmIsExact(t *testing.T) {
	a, err := newAlarm()
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	const waits, d = 40, 3300 * time.Microsecond
	exact := 0
	for range 5 { // on a busy machine nothing is
		exact = 0
		for range waits {
			begin := time.Now()
			if err := a.wait(d); err != nil {
				t.Fatal(err)
			}
			late := time.Since(begin) - d
			if late < 0 {
				t.Fatalf("it returned %v too early", -late)
			}
			if late < 250*time.Microsecond {
				exact++
			}
		}
		if exact >= waits/2 {
			break
		}
	}
	if exact < waits/2 {
		t.Errorf("of %d waits, %d were less than 250 us late", waits, exact)
	}
	stopped := make(chan error)
	go func() { stopped <- a.wait(time.Hour) }()
	time.Sleep(10 * time.Millisecond)
	a.stop()
	select {
	case err := <-stopped:
		if err == nil {
			t.Error("an hour was over at once")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a stopped alarm waits on")
	}
	if a.wait(time.Hour) == nil {
		t.Error("a stopped alarm waits again")
	}
}
