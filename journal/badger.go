package journal

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/uuid"
	"github.com/sirupsen/logrus"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal/failpoint"
)

// badgerStore keeps the records in a Badger store. Keys:
//
//	g/<pos>             an event (record.go)
//	s/<stream> 0 <seq>  a snapshot, the last two of each stream
//	m/format            JSON: schema, journal id, time of creation
//	m/head              counter, pos, epoch, number of snapshots; in every transaction
//
// <pos> and <seq> are 8 bytes, big endian, so that iteration follows them. Every value
// begins with the CRC32C of the key and the rest of the value. Where the events of a
// stream are is kept in memory (index.go): a second set of keys could only disagree.
type badgerStore struct {
	dir   string // the journal's; Badger has a folder in it
	db    *badger.DB
	lock  *os.File
	marks *os.File
	id    uuid.UUID
	sync  bool
	space space
	log   logrus.FieldLogger

	// The writer's.
	mark  mark
	snaps uint64 // number of stored snapshots
	dirty bool   // the mark was written but not synced

	memtable   int            // number of the memtable's file
	upkeep     sync.Mutex     // held by the one upkeep that may run
	background sync.WaitGroup // it
}

const (
	eventPrefix    = "g/"
	snapshotPrefix = "s/"
	formatKey      = "m/format"
	headKey        = "m/head"
)

// storeFormat is the value of m/format.
type storeFormat struct {
	Schema  int       `json:"schema"`
	ID      uuid.UUID `json:"id"`
	Created time.Time `json:"created"`
}

// storeHead is the value of m/head.
type storeHead struct {
	counter, pos, epoch, snapshots uint64
}

func (h storeHead) encode() []byte {
	b := make([]byte, 0, 32)
	for _, v := range [...]uint64{h.counter, h.pos, h.epoch, h.snapshots} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

func decodeHead(b []byte) (h storeHead, err error) {
	if len(b) != 32 {
		return h, fmt.Errorf("%d bytes instead of 32", len(b))
	}
	for i, v := range []*uint64{&h.counter, &h.pos, &h.epoch, &h.snapshots} {
		*v = binary.BigEndian.Uint64(b[8*i:])
	}
	return h, nil
}

func eventKey(pos uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(eventPrefix), pos)
}

func snapshotKey(stream string, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(snapshotPrefix+stream), 0), seq)
}

// parseSnapshotKey is the inverse of snapshotKey.
func parseSnapshotKey(key []byte) (stream string, seq uint64, ok bool) {
	n := len(key) - 9
	if n < len(snapshotPrefix) || key[n] != 0 {
		return "", 0, false
	}
	return string(key[len(snapshotPrefix):n]), binary.BigEndian.Uint64(key[n+1:]), true
}

// sealValue puts the checksum in front.
func sealValue(key, content []byte) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(content)), checksum(key, content))
	return append(b, content...)
}

// openValue checks and removes it.
func openValue(key, value []byte) ([]byte, error) {
	if len(value) < 4 {
		return nil, fmt.Errorf("%w: key %q has a value of %d bytes", ErrDamaged, key, len(value))
	}
	if binary.LittleEndian.Uint32(value) != checksum(key, value[4:]) {
		return nil, fmt.Errorf("%w: the checksum of key %q differs", ErrDamaged, key)
	}
	return value[4:], nil
}

// limits are those of a Badger transaction, less what head and format take.
func (s *badgerStore) limits() limits {
	return limits{
		records: int(s.db.MaxBatchCount()) - 8,
		bytes:   int(s.db.MaxBatchSize()) - 4096,
		large:   valueThreshold + 256, // surely in the value log
	}
}

func (s *badgerStore) admit(bytes int64, urgent bool) error { return s.space.admit(bytes, urgent) }

// transact runs one transaction that also counts itself, makes it durable and marks it.
func (s *badgerStore) transact(pos, epoch, snaps uint64, fill func(set func(key, content []byte) error, del func(key []byte) error) error) error {
	next := mark{counter: s.mark.counter + 1, pos: pos, epoch: epoch}
	err := guard(func() error {
		txn := s.db.NewTransaction(true)
		defer txn.Discard()
		set := func(key, content []byte) error { return txn.Set(key, sealValue(key, content)) }
		if err := fill(set, txn.Delete); err != nil {
			return fmt.Errorf("%w: %w", errClean, err)
		}
		h := storeHead{counter: next.counter, pos: pos, epoch: epoch, snapshots: snaps}
		if err := set([]byte(headKey), h.encode()); err != nil {
			return fmt.Errorf("%w: %w", errClean, err)
		}
		return txn.Commit()
	})
	if err != nil {
		return fmt.Errorf("write to %s: %w", s.dir, err)
	}
	s.settle()
	failpoint.Hit(failpoint.AfterWrite)
	if err := writeMark(s.marks, s.id, next); err != nil {
		return fmt.Errorf("mark of %s: %w", s.dir, err)
	}
	s.mark, s.snaps, s.dirty = next, snaps, true
	failpoint.Hit(failpoint.AfterMark)
	return nil
}

func (s *badgerStore) writeEvents(recs []record) error {
	return s.transact(recs[len(recs)-1].pos, s.mark.epoch, s.snaps, func(set func(key, content []byte) error, _ func([]byte) error) error {
		for i := range recs {
			if i == len(recs)/2 {
				failpoint.Hit(failpoint.MidBatch)
			}
			if err := set(eventKey(recs[i].pos), recs[i].body); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *badgerStore) writeEpoch(epoch uint64) error {
	return s.transact(s.mark.pos, epoch, s.snaps, func(func(key, content []byte) error, func([]byte) error) error { return nil })
}

func (s *badgerStore) writeSnapshot(stream string, seq uint64, state []byte, drop []uint64) error {
	key := snapshotKey(stream, seq)
	snaps := s.snaps + 1 - uint64(len(drop))
	if err := s.db.View(func(txn *badger.Txn) error { _, err := txn.Get(key); return err }); err == nil {
		snaps-- // it is replaced
	}
	return s.transact(s.mark.pos, s.mark.epoch, snaps, func(set func(key, content []byte) error, del func([]byte) error) error {
		if err := set(key, state); err != nil {
			return err
		}
		failpoint.Hit(failpoint.MidSnapshot)
		for _, old := range drop {
			if err := del(snapshotKey(stream, old)); err != nil {
				return err
			}
		}
		return nil
	})
}

// removePerTransaction keeps a removal below the limits of a transaction.
const removePerTransaction = 1000

func (s *badgerStore) removeEvents(positions []uint64) error {
	for part := range slices.Chunk(positions, removePerTransaction) {
		if err := s.admit(int64(len(part)*perRecord), true); err != nil {
			return err
		}
		err := s.transact(s.mark.pos, s.mark.epoch, s.snaps, func(_ func(key, content []byte) error, del func([]byte) error) error {
			for i, pos := range part {
				if i == len(part)/2 {
					failpoint.Hit(failpoint.MidRetention)
				}
				if err := del(eventKey(pos)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		failpoint.Hit(failpoint.MidRetention)
	}
	s.collect()
	return nil
}

func (s *badgerStore) fetch(positions []uint64, in interner) (out []events.Envelope, err error) {
	span := positions[len(positions)-1] - positions[0]
	err = s.view(func(txn *badger.Txn) error {
		if span < 8*uint64(len(positions)) {
			out, err = s.walk(txn, positions, in)
			return err
		}
		out, err = s.pick(txn, positions, in)
		return err
	})
	return out, err
}

// pick reads events that stand far apart.
func (s *badgerStore) pick(txn *badger.Txn, positions []uint64, in interner) (out []events.Envelope, err error) {
	size := 0
	out = make([]events.Envelope, 0, len(positions))
	for _, pos := range positions {
		item, err := txn.Get(eventKey(pos))
		if errors.Is(err, badger.ErrKeyNotFound) {
			return out, fmt.Errorf("%w at position %d of %s", errAbsent, pos, s.dir)
		}
		if err != nil {
			return out, fmt.Errorf("%w: position %d of %s: %w", ErrDamaged, pos, s.dir, err)
		}
		env, err := s.event(item, in)
		if err != nil {
			return out, err
		}
		out = append(out, env)
		if size += len(env.Data); size >= chunkBytes {
			break
		}
	}
	return out, nil
}

// walk reads events that stand close together, passing over what lies between.
func (s *badgerStore) walk(txn *badger.Txn, positions []uint64, in interner) (out []events.Envelope, err error) {
	it := txn.NewIterator(iterate(eventPrefix))
	defer it.Close()
	it.Seek(eventKey(positions[0]))
	size := 0
	out = make([]events.Envelope, 0, len(positions))
	for _, pos := range positions {
		key := eventKey(pos)
		for it.Valid() && string(it.Item().Key()) < string(key) {
			it.Next()
		}
		if !it.Valid() || string(it.Item().Key()) != string(key) {
			return out, fmt.Errorf("%w at position %d of %s", errAbsent, pos, s.dir)
		}
		env, err := s.event(it.Item(), in)
		if err != nil {
			return out, err
		}
		out = append(out, env)
		if size += len(env.Data); size >= chunkBytes {
			break
		}
	}
	return out, nil
}

func (s *badgerStore) scan(from, to uint64, in interner) (out []events.Envelope, err error) {
	err = s.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(iterate(eventPrefix))
		defer it.Close()
		size := 0
		out = make([]events.Envelope, 0, min(chunkEvents, to-from+1))
		for it.Seek(eventKey(from)); it.Valid() && len(out) < chunkEvents && size < chunkBytes; it.Next() {
			env, err := s.event(it.Item(), in)
			if err != nil {
				return err
			}
			if env.Pos > to {
				break
			}
			out = append(out, env)
			size += len(env.Data)
		}
		return nil
	})
	return out, err
}

// event decodes the event of an item.
func (s *badgerStore) event(item *badger.Item, in interner) (events.Envelope, error) {
	return s.decode(item, in, true)
}

// decode decodes the event of an item; without its data, but for summaries, if they are
// not wanted: Badger may take the memory away when the value was looked at.
func (s *badgerStore) decode(item *badger.Item, in interner, data bool) (env events.Envelope, err error) {
	key := item.Key()
	verr := item.Value(func(value []byte) error {
		var content []byte
		if content, err = openValue(key, value); err != nil {
			return nil
		}
		env, err = decodeRecord(content, in)
		if data || isSummary(&env) {
			env.Data = slices.Clone(env.Data)
		} else {
			env.Data = nil
		}
		return nil
	})
	if verr != nil {
		err = verr
	}
	if err == nil && string(eventKey(env.Pos)) != string(key) {
		err = fmt.Errorf("key %q holds event %d", key, env.Pos)
	}
	if err != nil && !errors.Is(err, ErrNewer) && !errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w: key %q: %w", ErrDamaged, key, err)
	}
	if err != nil {
		return env, fmt.Errorf("%s: %w", s.dir, err)
	}
	return env, nil
}

func (s *badgerStore) snapshot(stream string, seq uint64) (state []byte, err error) {
	key := snapshotKey(stream, seq)
	err = s.view(func(txn *badger.Txn) error {
		state, err = get(txn, key)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: snapshot %d of stream %q in %s: %w", ErrDamaged, seq, stream, s.dir, err)
	}
	return state, nil
}

// get reads, checks and copies a value.
func get(txn *badger.Txn, key []byte) ([]byte, error) {
	item, err := txn.Get(key)
	if err != nil {
		return nil, err
	}
	value, err := item.ValueCopy(nil)
	if err != nil {
		return nil, fmt.Errorf("%w: key %q: %w", ErrDamaged, key, err)
	}
	return openValue(key, value)
}

// iterate are options that read values in place, one at a time.
func iterate(prefix string) badger.IteratorOptions {
	o := badger.DefaultIteratorOptions
	o.PrefetchValues = false
	o.Prefix = []byte(prefix)
	return o
}

func (s *badgerStore) view(f func(*badger.Txn) error) error {
	return guard(func() error { return s.db.View(f) })
}

// guard turns a panic of Badger, which altered files can cause, into an error.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: Badger: %v", ErrDamaged, p)
		}
	}()
	return f()
}

func (s *badgerStore) idle() bool {
	s.syncMark()
	s.merge(mergeIdle)
	return s.space.renew()
}

// syncMark makes the mark as durable as the store.
func (s *badgerStore) syncMark() {
	if s.dirty && s.sync {
		if err := syncData(s.marks); err != nil {
			s.log.WithError(err).Warnf("journal %s: sync of the mark", s.dir)
		}
	}
	s.dirty = false
}

func (s *badgerStore) close() error {
	s.background.Wait()
	s.syncMark()
	return errors.Join(s.closeBadger(), s.marks.Close(), s.lock.Close())
}

// readFormat reads m/format; false: there is none.
func readFormat(txn *badger.Txn) (f storeFormat, ok bool, err error) {
	b, err := get(txn, []byte(formatKey))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return f, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	return f, err == nil, err
}

func (s *badgerStore) verify(ctx context.Context) []error {
	var found []error
	if err := guard(s.db.VerifyChecksum); err != nil {
		found = append(found, fmt.Errorf("%w: %s: %w", ErrDamaged, s.dir, err))
	}
	_, _, more, err := s.examine(ctx)
	return append(append(found, more...), err)
}
