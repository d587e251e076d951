package actors

// acks finds out how far facts may be acknowledged: up to the first one that is not
// durable yet. Facts of different nodes become durable in any order.
type acks struct {
	base uint64 // all up to here are settled
	done map[uint64]struct{}
	sent uint64 // what the shim was told
}

// reset begins a connection, whose first unacknowledged fact is given (0: none, and
// last is the last one of all).
func (a *acks) reset(firstUnacked, last uint64) {
	base := last
	if firstUnacked > 0 {
		base = firstUnacked - 1
	}
	*a = acks{base: base, sent: base, done: map[uint64]struct{}{}}
}

// settle notes that a fact is durable, or that nothing follows from it.
func (a *acks) settle(seq uint64) {
	if seq <= a.base {
		return
	}
	if a.done == nil {
		a.done = map[uint64]struct{}{}
	}
	a.done[seq] = struct{}{}
	for {
		if _, ok := a.done[a.base+1]; !ok {
			return
		}
		a.base++
		delete(a.done, a.base)
	}
}

// due is what to acknowledge now, if anything.
func (a *acks) due() (seq uint64, ok bool) {
	if a.base <= a.sent {
		return 0, false
	}
	a.sent = a.base
	return a.base, true
}
