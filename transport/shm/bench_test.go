//go:build linux

package shm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Benchmarks between two processes. All report medians:
//
//	BenchmarkRoundTrip  us: half of the time from before the send to the 8-byte answer
//	BenchmarkStream     msg/s and GB/s with a queue of 10 and a receiver that keeps up
//
// copy: the payload lies complete in the sender's own memory before; loan: in the slot.
// floor is C. The comparison with other transports is scenarios/bench.

var benchSizes = []int{8, 4 << 10, 64 << 10, 1 << 20, 4 << 20, 16 << 20}

func sizeName(n int) string {
	return strings.ReplaceAll(strings.TrimSuffix(bytesText(int64(n)), "B"), ".0 ", "") + "B"
}

func BenchmarkRoundTrip(b *testing.B) {
	b.Run("floor/futex", func(b *testing.B) {
		floor := floorProgram(b)
		reportMicros(b, floor("futex", strconv.Itoa(max(b.N, 2000))))
	})
	for _, spin := range []time.Duration{0, 50 * time.Microsecond} {
		for _, how := range []string{"copy", "loan"} {
			for _, size := range benchSizes {
				name := fmt.Sprintf("%s/%s", how, sizeName(size))
				if spin > 0 {
					name = "spin-" + name
				}
				b.Run(name, func(b *testing.B) { reportMicros(b, shmRoundTrip(b, size, how == "loan", spin, b.N)) })
			}
		}
	}
}

func BenchmarkStream(b *testing.B) {
	for _, size := range benchSizes[3:] {
		b.Run("floor/memcpy/"+sizeName(size), func(b *testing.B) {
			floor := floorProgram(b)
			ns := floor("memcpy", strconv.Itoa(size), "200")
			b.ReportMetric(float64(size)/float64(ns), "GB/s")
			b.ReportMetric(0, "ns/op")
		})
	}
	for _, how := range []string{"copy", "loan"} {
		for _, size := range benchSizes {
			b.Run(fmt.Sprintf("%s/%s", how, sizeName(size)), func(b *testing.B) { reportRate(b, size, shmStream(b, size, how == "loan", b.N)) })
		}
	}
}

func reportMicros(b *testing.B, ns int64) {
	b.ReportMetric(float64(ns)/1000, "us")
	b.ReportMetric(0, "ns/op")
}

func reportRate(b *testing.B, size int, d time.Duration) {
	b.ReportMetric(float64(b.N)/d.Seconds(), "msg/s")
	b.ReportMetric(float64(b.N)*float64(size)/d.Seconds()/1e9, "GB/s")
	b.ReportMetric(0, "ns/op")
}

func median(v []time.Duration) int64 {
	slices.Sort(v)
	return v[len(v)/2].Nanoseconds()
}

// floorSource is the C program that measures what the machine can do.
const floorSource = "../../scenarios/bench/floor/floor.c"

// floorProgram compiles the floor once and returns a function that runs it and gives the
// median in nanoseconds.
func floorProgram(b *testing.B) func(args ...string) int64 {
	b.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		b.Fatal("the floor is measured by a C program: install gcc: ", err)
	}
	exe := filepath.Join(b.TempDir(), "floor")
	if out, err := exec.Command(gcc, "-O2", "-o", exe, floorSource).CombinedOutput(); err != nil {
		b.Fatalf("compile %s: %v\n%s", floorSource, err, out)
	}
	return func(args ...string) int64 {
		out, err := exec.Command(exe, args...).Output()
		if err != nil {
			b.Fatalf("floor %v: %v", args, err)
		}
		var v []time.Duration
		for _, line := range strings.Fields(string(out)) {
			ns, err := strconv.ParseInt(line, 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			v = append(v, time.Duration(ns))
		}
		return median(v)
	}
}

// peer starts this test binary as the other side of a benchmark.
func peer(b testing.TB, env ...string) {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(append(os.Environ(), "DORA_SHM_TEST_ROLE=bench"), env...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

func benchSocket(b testing.TB) string {
	b.Helper()
	dir, err := os.MkdirTemp("", "shm")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// benchPair is a sender in this process and a peer process that answers.
func benchPair(b testing.TB, answer string, spin time.Duration) *Endpoint {
	r := newRig(b, SupervisorOptions{ArenaLimit: 1 << 30})
	socket := benchSocket(b)
	if err := r.sup.Listen(socket); err != nil {
		b.Fatal(err)
	}
	here, there := r.join("here"), r.join("there")
	r.connect(here, "out", there, "in", 10, Backpressure)
	r.connect(there, "out", here, "in", 10, Backpressure)
	ep, err := r.sup.Local(here, Options{Spin: spin})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(ep.Close)
	r.wait("ready", ep.Ready())
	peer(b, "DORA_SHM_TEST_SOCKET="+socket, "DORA_SHM_TEST_TOKEN="+there.Token(), "DORA_SHM_TEST_MODE="+answer, "DORA_SHM_TEST_SPIN="+spin.String())
	return ep
}

// emit sends one message of the benchmark.
func emit(ep *Endpoint, payload []byte, size int, loan bool) (t0 time.Time, err error) {
	if !loan {
		t0 = time.Now()
		return t0, ep.Writer.Send(context.Background(), "out", payload, Header{})
	}
	l, err := ep.Writer.Reserve(context.Background(), size)
	if err != nil {
		return t0, err
	}
	l.Bytes()[size-1], l.Bytes()[0] = payload[size-1], payload[0]
	t0 = time.Now()
	return t0, l.Publish(context.Background(), "out", Header{})
}

func shmRoundTrip(b testing.TB, size int, loan bool, spin time.Duration, n int) int64 {
	ep := benchPair(b, "each", spin)
	payload := pattern(size, 1)
	v := make([]time.Duration, 0, n)
	for i := range n + 20 {
		t0, err := emit(ep, payload, size, loan)
		if err != nil {
			b.Fatal(err)
		}
		m, err := ep.Reader.Recv(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		if i >= 20 {
			v = append(v, time.Since(t0)/2)
		}
		m.Release()
	}
	return median(v)
}

func shmStream(b testing.TB, size int, loan bool, n int) time.Duration {
	ep := benchPair(b, "last", 0)
	payload := pattern(size, 1)
	payload[0] = 0
	send := func(n int) {
		for i := range n {
			payload[0] = 0
			if i == n-1 {
				payload[0] = 1
			}
			if _, err := emit(ep, payload, size, loan); err != nil {
				b.Fatal(err)
			}
		}
		m, err := ep.Reader.Recv(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		m.Release()
	}
	send(30)
	t0 := time.Now()
	send(n)
	return time.Since(t0)
}

// benchChild answers: each message, or each whose first byte says that it is the last.
// It reads every cache line, unless it answers each.
func benchChild() int {
	if err := benchAnswer(); err != nil {
		fmt.Fprintln(os.Stderr, "bench peer:", err)
		return 3
	}
	return 0
}

func benchAnswer() error {
	each := os.Getenv("DORA_SHM_TEST_MODE") == "each"
	spin, _ := time.ParseDuration(os.Getenv("DORA_SHM_TEST_SPIN"))
	ep, err := Dial(os.Getenv("DORA_SHM_TEST_SOCKET"), os.Getenv("DORA_SHM_TEST_TOKEN"), Options{Spin: spin})
	if err != nil {
		return err
	}
	<-ep.Ready()
	sum := byte(0)
	for {
		m, err := ep.Reader.Recv(context.Background())
		if err != nil || m.End != NotEnded {
			return nil
		}
		answer := each
		if !each {
			for i := 0; i < len(m.Payload); i += 64 {
				sum += m.Payload[i]
			}
			answer = m.Payload[0] == 1
		}
		m.Release()
		if answer {
			if err := ep.Writer.Send(context.Background(), "out", []byte{sum, 0, 0, 0, 0, 0, 0, 0}, Header{}); err != nil {
				return err
			}
		}
	}
}

// TestBenchmarkPeers runs both sides of each benchmark for a moment, so that they do not
// rot.
func TestBenchmarkPeers(t *testing.T) {
	if shmRoundTrip(t, 5000, true, time.Microsecond, 3) <= 0 {
		t.Error("no time passed")
	}
	if shmStream(t, 5000, true, 30) <= 0 || shmStream(t, 8, false, 30) <= 0 {
		t.Error("no time passed")
	}
}
