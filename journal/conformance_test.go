package journal_test

import (
	"path/filepath"
	"testing"

	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/journal/journaltest"
)

func TestMemory(t *testing.T) {
	journaltest.Run(t, journaltest.Stores{
		Open:     func(testing.TB, string) (journal.Store, error) { return journal.NewMemory(), nil },
		Volatile: true,
	})
}

func TestFile(t *testing.T) {
	for name, o := range map[string]journal.OpenOptions{"sync": {}, "nosync": {NoSync: true}} {
		t.Run(name, func(t *testing.T) {
			journaltest.Run(t, stores(25, func(dir string) (journal.Store, error) {
				return journal.OpenFile(filepath.Join(dir, journal.RunFileName), o)
			}))
		})
	}
}

func TestBadger(t *testing.T) {
	journaltest.Run(t, stores(8, func(dir string) (journal.Store, error) {
		return journal.OpenBadger(dir, journal.OpenOptions{Ballast: 1 << 20})
	}))
}

// stores gives every test folders of its own.
func stores(checks int, open func(dir string) (journal.Store, error)) journaltest.Stores {
	root := map[testing.TB]string{}
	return journaltest.Stores{Checks: checks, Open: func(t testing.TB, name string) (journal.Store, error) {
		if root[t] == "" {
			root[t] = t.TempDir()
		}
		return open(folder(t, filepath.Join(root[t], name)))
	}}
}
