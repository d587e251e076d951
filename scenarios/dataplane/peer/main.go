// Command peer is a node of data plane tests. Its first argument says what it does:
//
//	send COUNT EVERY SIZE...   numbered messages of these sizes in turn (bytes), then end;
//	                           COUNT 0 is for ever
//	recv                       check numbers and content, print a summary at the end
//	slow EVERY                 the same, with a pause after each message
//	hoard                      receive and never release
//	scribble                   receive 3 messages, then write over all shared memory
//	truncate                   receive 3 messages, then resize all shared memory, then recv
//	relay                      send every message on
//	dynamic ID ...             join as the dynamic node ID, then as above
//
// Message i of a process has the values i, the process's restart count, then i again and
// again.
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/dora-go/dora/nodeapi"
	"golang.org/x/sys/unix"
)

func main() {
	args := os.Args[1:]
	var node *nodeapi.Node
	var err error
	if args[0] == "dynamic" {
		node, err = nodeapi.InitDynamic(context.Background(), args[1])
		args = args[2:]
	} else {
		node, err = nodeapi.Init(context.Background())
	}
	if err == nil {
		err = run(node, args[0], args[1:])
	}
	if err != nil {
		fmt.Println("FAILED", err)
		os.Exit(1)
	}
	_ = node.Close()
}

func run(node *nodeapi.Node, what string, args []string) error {
	switch what {
	case "send":
		return send(node, args)
	case "recv":
		return recv(node, 0)
	case "slow":
		every, err := time.ParseDuration(args[0])
		if err != nil {
			return err
		}
		return recv(node, every)
	case "hoard":
		var kept []nodeapi.Event
		for ev := range node.Events() {
			kept = append(kept, ev)
		}
		fmt.Println("HOARDED", len(kept))
		return nil
	case "scribble", "truncate":
		return misbehave(node, what)
	case "relay":
		for ev := range node.Events() {
			if in, ok := ev.(*nodeapi.Input); ok {
				err := node.SendOutput("out", in.Data, nodeapi.WithParameters(in.Metadata.Parameters))
				in.Release()
				if err != nil {
					return err
				}
			}
		}
		return nil
	}
	return fmt.Errorf("unknown behaviour %q", what)
}

func send(node *nodeapi.Node, args []string) error {
	count, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	every, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	var sizes []int
	for _, a := range args[2:] {
		n, err := strconv.Atoi(a)
		if err != nil {
			return err
		}
		sizes = append(sizes, n)
	}
	go func() { // events are of no concern, but a Stop is
		for ev := range node.Events() {
			if _, ok := ev.(*nodeapi.Stop); ok {
				_ = node.Close()
				os.Exit(0)
			}
		}
	}()
	failed := 0
	for i := 0; i < count || count == 0; i++ {
		n := max(2, sizes[i%len(sizes)]/8)
		loan, err := node.Loan("out", 8*n)
		if errors.Is(err, nodeapi.ErrClosed) {
			select {} // the end is under way
		}
		if err != nil {
			return err
		}
		b := array.NewInt64Builder(loan)
		b.Resize(n)
		b.UnsafeAppend(int64(i))
		b.UnsafeAppend(int64(node.RestartCount()))
		for range n - 2 {
			b.UnsafeAppend(int64(i))
		}
		arr := b.NewArray()
		if i%2 == 0 {
			err = loan.Send(arr)
		} else {
			err = node.SendOutput("out", arr)
			loan.Discard()
		}
		arr.Release()
		if err != nil {
			if failed++; failed == 1 {
				fmt.Println("SEND", err)
			}
		}
		if every > 0 {
			time.Sleep(every)
		}
	}
	fmt.Println("SENT", count, "FAILED SENDS", failed)
	return nil
}

// flow is what came on one input from one process of its sender.
type flow struct{ first, last, received, gaps int64 }

func recv(node *nodeapi.Node, pause time.Duration) error {
	flows := map[string]*flow{}
	restarts := map[string]int64{}
	total := 0
	for ev := range node.Events() {
		switch ev := ev.(type) {
		case *nodeapi.Input:
			if err := check(ev, flows, restarts); err != nil {
				return err
			}
			if total++; total == 1 {
				fmt.Println("FIRST")
			}
			ev.Release()
			time.Sleep(pause)
		case *nodeapi.NodeRestarted:
			restarts[ev.Node]++
			fmt.Println("EVENT", ev)
		case *nodeapi.Error:
			fmt.Println("EVENT", ev)
		default:
			fmt.Println("EVENT", ev)
		}
	}
	report(flows, node.Dropped())
	return nil
}

func check(in *nodeapi.Input, flows map[string]*flow, restarts map[string]int64) error {
	values, ok := in.Data.(*array.Int64)
	if !ok || values.Len() < 2 || values.DataType().ID() != arrow.INT64 {
		return fmt.Errorf("input %s: %v", in.ID, in.Data.DataType())
	}
	v := values.Int64Values()
	i, process := v[0], v[1]
	for k, x := range v[2:] {
		if x != i {
			return fmt.Errorf("input %s: message %d has %d at %d of %d", in.ID, i, x, k+2, len(v))
		}
	}
	key := fmt.Sprintf("%s/%d", in.ID, process)
	f := flows[key]
	if f == nil {
		// A message of a restarted process comes after the news of it.
		if process > 0 && restarts[strings.TrimPrefix(in.ID, "from-")] < process {
			fmt.Printf("EARLY message of process %d of %s\n", process, in.ID)
		}
		f = &flow{first: i, last: i - 1}
		flows[key] = f
	}
	if i <= f.last {
		return fmt.Errorf("input %s: message %d after %d", key, i, f.last)
	}
	f.gaps += i - f.last - 1
	f.last = i
	f.received++
	return nil
}

func report(flows map[string]*flow, dropped map[string]uint64) {
	keys := make([]string, 0, len(flows))
	for k := range flows {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		f := flows[k]
		fmt.Printf("FLOW %s first %d last %d received %d gaps %d\n", k, f.first, f.last, f.received, f.gaps)
	}
	for id, n := range dropped {
		fmt.Printf("DROPPED %s %d\n", id, n)
	}
	fmt.Println("DONE")
}

func misbehave(node *nodeapi.Node, how string) error {
	n := 0
	for ev := range node.Events() {
		if in, ok := ev.(*nodeapi.Input); ok {
			in.Release()
			if n++; n == 3 {
				break
			}
		}
	}
	if how == "scribble" {
		fmt.Println("SCRIBBLES")
		scribble()
		time.Sleep(time.Hour)
		return nil
	}
	fmt.Println("RESIZED", resize())
	return recv(node, 0)
}

// mapping is a line of /proc/self/maps that is writable memory of a memfd.
type mapping struct {
	name     string
	from, to uint64
}

func mappings() (out []mapping) {
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 6 || !strings.HasPrefix(f[5], "/memfd:") || f[1][1] != 'w' {
			continue
		}
		var m mapping
		if _, err := fmt.Sscanf(f[0], "%x-%x", &m.from, &m.to); err == nil {
			m.name = f[0]
			out = append(out, m)
		}
	}
	return out
}

func scribble() {
	rnd := rand.New(rand.NewPCG(1, 2))
	mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	garbage := make([]byte, 64<<10)
	for range 200 {
		for i := range garbage {
			garbage[i] = byte(rnd.Uint32())
		}
		for _, m := range mappings() {
			n := min(int64(m.to-m.from), int64(len(garbage)))
			if _, err := mem.WriteAt(garbage[:n], int64(m.from)); err != nil {
				panic(err)
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// resize tries to make all shared memory smaller and returns how often it could.
func resize() (done int) {
	for _, m := range mappings() {
		fd, err := unix.Open("/proc/self/map_files/"+m.name, unix.O_RDWR, 0)
		if err != nil {
			fmt.Println("EVENT cannot open a mapping:", err)
			continue
		}
		if unix.Ftruncate(fd, 0) == nil {
			done++
		}
		_ = unix.Close(fd)
	}
	return done
}
