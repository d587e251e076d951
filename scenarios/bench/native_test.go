package main

import (
	"context"
	"slices"
	"testing"
	"time"
)

func TestTimesOfPrograms(t *testing.T) {
	for text, want := range map[string][]float64{
		"1\n20\n3\n": {1, 20, 3},
		"":           nil,
		"1\nx\n":     nil,
		"0\n":        nil,
		"-1\n":       nil,
	} {
		got, err := parseTimes("program", []byte(text))
		if !slices.Equal(got, want) || (err != nil) != (want == nil) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

// Every peer without dora measures something, and a wrong command line is an error that
// says so.
func TestNativePeersRun(t *testing.T) {
	ctx := context.Background()
	if err := all(shop.prepareFloor, shop.preparePeers)(ctx); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{
		{shop.floorProgram(), "futex", "20"}, {shop.floorProgram(), "spin", "20"}, {shop.floorProgram(), "paced", "20", "100"},
		{shop.floorProgram(), "memcpy", "65536", "20", "3"}, {shop.floorProgram(), "shared", "65536", "20"},
		{shop.peerProgram(), "socket", "100000", "20"}, {shop.peerProgram(), "nats", "100000", "20"},
	} {
		if s, err := shop.native(argv...)(ctx); err != nil || s.N != 20 || s.P50 <= 0 {
			t.Errorf("%v: %+v, %v", argv, s, err)
		}
	}
	for _, argv := range [][]string{{shop.floorProgram(), "juggle"}, {shop.peerProgram(), "socket", "3", "20"}} {
		if _, err := shop.native(argv...)(ctx); err == nil || !containsAll(err.Error(), argv[0], "exit status") {
			t.Errorf("%v: %v", argv, err)
		}
	}
}

func TestShareOfACore(t *testing.T) {
	at := func(program string, ms int) usage {
		return usage{program: "/bin/" + program, onCPU: time.Duration(ms) * time.Millisecond}
	}
	before := map[int]usage{1: at("dora", 100), 2: at("node", 10), 3: at("node", 20)}
	after := map[int]usage{1: at("dora", 300), 2: at("node", 40), 3: at("node", 30), 4: at("sh", 500)}
	sum, whole, err := percentages(before, after, "node", time.Second, false)
	if err != nil || sum != 4 || whole != 24 {
		t.Errorf("both nodes %v, all %v, %v", sum, whole, err)
	}
	if busier, _, err := percentages(before, after, "node", time.Second, true); err != nil || busier != 3 {
		t.Errorf("the busier node %v, %v", busier, err)
	}
	delete(after, 3)
	if _, _, err := percentages(before, after, "node", time.Second, false); err == nil {
		t.Error("a node that ended is not missed")
	}
}
