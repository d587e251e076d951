//go:build !(zenoh && cgo)

package zenoh

// Built says whether this program has the engine.
const Built = false

type (
	engineSession      struct{}
	enginePublisher    struct{}
	enginePool         struct{}
	engineSubscription struct{}
	engineSample       struct{}
)

func (*engineSession) open(string) error           { return ErrAbsent }
func (*engineSession) locator() (string, error)    { return "", ErrAbsent }
func (*engineSession) segment(uint64) (int, int64) { return -1, 0 }
func (*engineSession) close()                      {}

func (*enginePublisher) declare(*engineSession, string) error { return ErrAbsent }
func (*enginePublisher) put(_, _ []byte) error                { return ErrAbsent }
func (*enginePublisher) putTaken(*enginePool, []byte) error   { return ErrAbsent }
func (*enginePublisher) free()                                {}

func (*enginePublisher) putOutside(*enginePool, Place, bool, []byte) (uint64, error) {
	return 0, ErrAbsent
}

func (*enginePool) make(int) error       { return ErrAbsent }
func (*enginePool) take(int, int) []byte { return nil }
func (*enginePool) held() (int, uint64)  { return 0, 0 }
func (*enginePool) returned() uint64     { return 0 }
func (*enginePool) free()                {}

func (*engineSubscription) declare(*engineSession, string, func(*Sample)) error { return ErrAbsent }
func (*engineSubscription) end()                                                {}

func (*engineSample) valid() bool { return false }
func (*engineSample) release()    {}
